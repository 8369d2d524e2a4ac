"""Where a login may return to: the configured addresses, and the command line on this machine.

Pure. Addresses are compared as exact strings: a prefix or a wildcard would let a page that is not
ours redeem codes (RFC 9700, section 2.1).
"""

import re
from collections.abc import Collection

from cvf_app.errors import Invalid

# `cvf login` listens on the loopback interface; the port is not the client's to choose in advance
# (RFC 8252, 7.3), so any is taken. The name `localhost` is not (8.3): it may lead elsewhere.
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?/callback")


def check_redirect(redirect_uri: str, configured: Collection[str]) -> None:
    """Let a code be exchanged only if it went where the configuration says.

    Without any configured address that is left to the provider, which binds each code to its own.

    Raises:
        Invalid: it went elsewhere.
    """
    if configured and redirect_uri not in configured and not _LOOPBACK.fullmatch(redirect_uri):
        raise Invalid(
            "Logins do not return to this address here; it must be one of Keycloak.RedirectURLs.",
            path="$.redirect_uri",
        )
