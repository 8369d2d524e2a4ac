"""What an access token must say to count here: a table of claims to checks, and nothing implied.

Pure. Every claim is in one of three groups: checked by a row of `CHECKS`, known and left
unchecked, or unknown, which the caller reports. A token counts only if all rows pass
(RFC 8725; RFC 9068, section 4; OpenID Connect Core 3.1.3.7).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cvf_app.errors import Unauthenticated
from cvf_app.users.identity import Claims

LEEWAY = timedelta(seconds=30)
_LONGEST_NAME = 255
# RFC 9068 marks an access token in its header, Keycloak in its body ("Bearer"). An ID, refresh or
# logout token has neither mark, and must not open anything.
_ACCESS_HEADER_TYPES = frozenset({"at+jwt", "application/at+jwt"})


# Later than this is no moment that Python's datetime can tell.
_YEAR_10000 = 253_402_300_800


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the claims are measured against."""

    issuer: str
    client_id: str
    now: datetime


def _is_moment(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _YEAR_10000
    )


def _not_before(value: object, expected: Expected) -> bool:
    return _is_moment(value) and _moment(value) <= expected.now + LEEWAY


def _not_after(value: object, expected: Expected) -> bool:
    return _is_moment(value) and _moment(value) > expected.now - LEEWAY


def _name(value: object, _: Expected) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


Check = Callable[[object, Expected], bool]
CHECKS: Mapping[str, Check] = {
    "iss": lambda value, expected: value == expected.issuer,
    "sub": _name,
    "exp": _not_after,
    "nbf": _not_before,
    "iat": _not_before,
    "typ": lambda value, _: value == "Bearer",
}
REQUIRED = ("iss", "sub", "exp")
# For whom a token is, and who asked for it: checked together by `_is_for_us`. A token that was
# exchanged for another service still names us as its `azp`, so `azp` alone must open nothing;
# one that another client got for itself and us is not a login of ours.
FOR_WHOM = frozenset({"aud", "azp", "client_id"})
UNCHECKED = frozenset(
    {
        "acr", "allowed-origins", "amr", "at_hash", "auth_time", "email",
        "email_verified", "entitlements", "family_name", "given_name", "groups", "jti", "locale",
        "name", "nonce", "preferred_username", "realm_access", "resource_access", "roles", "scope",
        "session_state", "sid", "updated_at", "zoneinfo",
    }
)  # fmt: skip


def read_claims(
    header: Mapping[str, object], claims: Mapping[str, object], expected: Expected
) -> Claims:
    """Return what a token says whose signature was verified before.

    Raises:
        Unauthenticated: a required claim is missing, a check fails, or it is no access token.
    """
    missing = [name for name in REQUIRED if name not in claims]
    failed = [name for name, check in CHECKS.items() if not _passes(name, check, claims, expected)]
    if missing or failed:
        expired = failed == ["exp"] and not missing
        raise Unauthenticated(
            "This access token has expired; log in again."
            if expired
            else "This access token is not valid here."
        )
    if header.get("typ") not in _ACCESS_HEADER_TYPES and claims.get("typ") != "Bearer":
        raise Unauthenticated("This token is not an access token.")
    if not _is_for_us(claims, expected.client_id):
        raise Unauthenticated("This access token was issued for another service.")
    issued = claims.get("iat")
    return Claims(
        subject=str(claims["sub"]),
        issued_at=None if issued is None else _moment(issued),
        expires_at=_moment(claims["exp"]),
        username=_text(claims, "preferred_username"),
        email=_text(claims, "email"),
        first_name=_text(claims, "given_name"),
        last_name=_text(claims, "family_name"),
    )


def unknown_claims(claims: Mapping[str, object]) -> frozenset[str]:
    """Return the claims that are in no group, to be reported."""
    return frozenset(claims) - frozenset(CHECKS) - FOR_WHOM - UNCHECKED


def _passes(name: str, check: Check, claims: Mapping[str, object], expected: Expected) -> bool:
    return name not in claims or check(claims[name], expected)


def _is_for_us(claims: Mapping[str, object], client_id: str) -> bool:
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    askers = {str(claims[name]) for name in ("azp", "client_id") if name in claims}
    return client_id in listed and askers <= {client_id}


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _moment(value: object) -> datetime:
    if not isinstance(value, int | float):
        raise TypeError("a moment is a number")
    return datetime.fromtimestamp(value, UTC)
