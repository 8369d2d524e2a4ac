"""The keys that a provider publishes (RFC 7517): which of them we can use, which a token means.

Pure. Promises: only signature keys of kinds that we accept are read; one that cannot be read is
passed over and logged; a token's own pointers to keys (`jku`, `x5u`, `jwk`) are never looked at.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

PublicKey: TypeAlias = RSAKey | ECKey | OKPKey
log = structlog.get_logger("cv3.identity")

_KINDS = frozenset({"RSA", "EC", "OKP"})


def read_keys(published: Iterable[Mapping[str, object]]) -> dict[str, PublicKey]:
    """Return the keys that we can use, by their `kid`."""
    return dict(filter(None, map(_read_key, published)))


def choose(keys: Mapping[str, PublicKey], name: object) -> PublicKey | None:
    """Return the key of this `kid`; a token without one means the only key there is."""
    if name is None and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(name) if isinstance(name, str) else None


def _read_key(published: Mapping[str, object]) -> tuple[str, PublicKey] | None:
    # Keycloak publishes its encryption key in the same list.
    if published.get("use", "sig") != "sig" or published.get("kty") not in _KINDS:
        return None
    texts: dict[str, str | list[str]] = {
        name: value for name, value in published.items() if isinstance(value, str)
    }
    try:
        key = import_key(texts)
    except (JoseError, ValueError, KeyError):
        log.warning("key_that_cannot_be_read", kid=str(published.get("kid")))
        return None
    return (str(published.get("kid", "")), key) if isinstance(key, PublicKey) else None
