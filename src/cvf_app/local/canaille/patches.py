# Canaille has no types and is mended through internals; this runs alone, in its environment.
# ruff: noqa: ANN001, ANN201, SLF001, ICN001
"""What Canaille 0.3.6 does wrongly for us, mended from outside; imported before `create_app`.

It reaches into internals, hence the exact pin. Each patch says what happens without it.
"""

import datetime
import time
import uuid
from urllib.parse import urlsplit

from canaille.oidc import models, provider
from joserfc import jwt

REFRESH_LIFETIME = datetime.timedelta(days=30)
LOOPBACK = ("127.0.0.1", "::1")


def generate_access_token(client, grant_type, user, scope):
    """Make an access token after RFC 9068.

    Without `jti`, two tokens of one person within one second are equal bytes and the second
    login fails with HTTP 500; without `scope` nobody can tell what a token is for.
    """
    key, algorithm = provider._get_signing_key(client)
    issued = int(time.time())
    generator = provider.authorization._token_generators["default"]
    claims = {
        "iss": provider.get_issuer(),
        "sub": user.user_name if user else client.client_id,
        "aud": [audience.client_id for audience in client.audience],
        "client_id": client.client_id,
        "scope": scope or "",
        "iat": issued,
        "exp": issued + generator._get_expires_in(client, grant_type),
        "jti": uuid.uuid4().hex,
    }
    header = {"typ": "at+jwt", "alg": algorithm, "kid": key.kid}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def is_refresh_token_active(token):
    """Give the refresh token a life of its own; without it, it dies with the access token."""
    now = datetime.datetime.now(datetime.UTC)
    return not token.revokation_date and token.issue_date + REFRESH_LIFETIME >= now


_registered = models.Client.check_redirect_uri


def check_redirect_uri(client, address):
    """Take a registered loopback address on any port (RFC 8252, section 7.3).

    Without it, a command line program cannot listen on a free port for the answer.
    """
    if _registered(client, address):
        return True
    asked = urlsplit(address)
    if asked.scheme != "http" or asked.hostname not in LOOPBACK or asked.username or asked.fragment:
        return False
    return any(
        (known.scheme, known.hostname, known.path, known.query)
        == (asked.scheme, asked.hostname, asked.path, asked.query)
        for known in map(urlsplit, client.redirect_uris)
    )


provider.generate_access_token = generate_access_token
models.Token.is_refresh_token_active = is_refresh_token_active
models.Client.check_redirect_uri = check_redirect_uri
