"""Any OpenID Connect provider, found by its issuer address.

Promises: tokens are verified here, with the provider's published keys, an allow-list of
signature algorithms, the exact issuer and ourselves as audience; a token's own pointers to keys
(`jku`, `x5u`, `jwk`) are never followed. The provider being down stops new logins and nothing
else. Our client secret is read from the key store at each use and kept nowhere. What the provider
refuses is told from the `error` field of its answer, never from the status.
"""

import base64
import binascii
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TypeVar
from urllib.parse import quote

import msgspec
import structlog
from joserfc import jwt
from joserfc.errors import JoseError

from cvf_app.backends.http import Http
from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.errors import (
    CredentialsRefused,
    Invalid,
    NotFound,
    PeerFailed,
    Unauthenticated,
    Unavailable,
)
from cvf_app.users.identity import Claims, Provider
from cvf_app.users.identity.cached import Remembered
from cvf_app.users.identity.claims import Expected, read_claims, unknown_claims
from cvf_app.users.identity.device import DEVICE_GRANT, REFUSALS
from cvf_app.users.identity.jwks import PublicKey, choose, read_keys
from cvf_app.users.identity.redirects import check_redirect
from cvf_app.users.model import DeviceLogin, Tokens
from cvf_app.wire import Heard, convert, decode

T = TypeVar("T")

SERVICE = "The identity provider"
CLIENT_SECRET = "identity/client"  # noqa: S105 - a path in the key store
ALGORITHMS = ("RS256", "PS256", "ES256", "Ed25519")
SCOPE = "openid profile email"
_LONGEST_TOKEN = 16 * 1024
_DISCOVERY_FRESH = timedelta(hours=1)
_KEYS_FRESH = timedelta(minutes=10)
_SERVER_FAULT = 500
_TOO_MANY = 429
_MOST_REPORTED = 100
_OUR_FAULT = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
log = structlog.get_logger("cv3.identity")


class Discovery(Heard, frozen=True, kw_only=True, rename=None):
    """The parts of a discovery document that we use (OpenID Discovery; RFC 8414)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    device_authorization_endpoint: str | None = None
    end_session_endpoint: str | None = None


class _KeySet(Heard, frozen=True, kw_only=True):
    keys: tuple[dict[str, object], ...]


class _Refusal(Heard, frozen=True, kw_only=True):
    error: str = ""


class Oidc:
    """An OpenID provider by discovery; see `Identity` for what each method promises."""

    def __init__(  # noqa: PLR0913 - where the provider is and what we need to speak to it
        self,
        http: Http,
        keys: KeyStore,
        clock: Clock,
        *,
        issuer: str,
        client_id: str,
        backend_url: str = "",
        redirects: Collection[str] = (),
    ) -> None:
        """Remember where the provider is.

        `backend_url` is the issuer's address as we reach it. `redirects` are the addresses that a
        login may return to; without any, that is left to the provider.
        """
        self._http = http
        self._secrets = keys
        self._clock = clock
        self._issuer = issuer
        self._client_id = client_id
        self._redirects = frozenset(redirects)
        self._reached_at = (backend_url or issuer).rstrip("/")
        self._discovery = Remembered("discovery", self._discover, _DISCOVERY_FRESH, clock)
        self._keys = Remembered("keys", self._fetch_keys, _KEYS_FRESH, clock)
        self._reported: set[str] = set()

    async def provider(self) -> Provider:
        """Return where a client sends people to log in."""
        found = await self._discovery.get()
        device, end = found.device_authorization_endpoint, found.end_session_endpoint
        return Provider(
            issuer=found.issuer,
            client_id=self._client_id,
            authorization_endpoint=self._for_people(found.authorization_endpoint),
            device_authorization_endpoint=device and self._for_people(device),
            end_session_endpoint=end and self._for_people(end),
        )

    async def exchange_code(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """Exchange a code of the authorization code flow for tokens."""
        check_redirect(redirect_uri, self._redirects)
        return await self._ask_tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": redirect_uri,
            }
        )

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for new tokens; one that is not replaced is returned again."""
        tokens = await self._ask_tokens(
            {"grant_type": "refresh_token", "refresh_token": refresh_token}
        )
        return tokens if tokens.refresh_token else replace_refresh(tokens, refresh_token)

    async def start_device(self, challenge: str) -> DeviceLogin:
        """Begin a login by device code, bound to a PKCE challenge where the provider takes one."""
        endpoint = (await self._discovery.get()).device_authorization_endpoint
        if endpoint is None:
            raise Invalid(f"{SERVICE} does not offer the login by device code.")
        fields = {"scope": SCOPE, "code_challenge": challenge, "code_challenge_method": "S256"}
        begun = await self._ask(endpoint, fields, DeviceLogin)
        return msgspec.structs.replace(
            begun,
            verification_uri=self._for_people(begun.verification_uri),
            verification_uri_complete=self._for_people(begun.verification_uri_complete),
        )

    async def poll_device(self, device_code: str, verifier: str) -> Tokens:
        """Exchange a device code for tokens, once the person has agreed."""
        return await self._ask_tokens(
            {
                "grant_type": DEVICE_GRANT,
                "device_code": device_code,
                "code_verifier": verifier,
            }
        )

    async def exchange_for(self, token: str, audience: str) -> Tokens:  # noqa: ARG002 - the Protocol's
        """Refuse: no standard says how a plain provider is told whom a token is for.

        Raises:
            Unavailable: always.
        """
        raise Unavailable(
            f"{SERVICE} cannot exchange a login for one that {audience} takes; a Keycloak can."
        )

    async def verify(self, access_token: str) -> Claims:
        """Check an access token on our own, with the provider's published keys."""
        header = _header_of(access_token)
        key = await self._key_for(header)
        try:
            token = jwt.decode(access_token, key, algorithms=list(ALGORITHMS))
        except (JoseError, ValueError, TypeError) as fault:
            # A TypeError comes of header members that are of another kind than RFC 7515 says.
            raise Unauthenticated("This access token is not valid here.") from fault
        expected = Expected(issuer=self._issuer, client_id=self._client_id, now=self._clock())
        claims = read_claims(token.header, token.claims, expected)
        self._report(unknown_claims(token.claims))
        return claims

    async def _key_for(self, header: Mapping[str, object]) -> PublicKey:
        if header.get("alg") not in ALGORITHMS:
            raise Unauthenticated("This access token is signed in a way that we do not accept.")
        name = header.get("kid")
        found: PublicKey | None = await self._keys.find(lambda keys: choose(keys, name))
        if found is None:
            raise Unauthenticated("This access token is signed with a key that nobody published.")
        return found

    async def _ask_tokens(self, fields: dict[str, str]) -> Tokens:
        found = await self._discovery.get()
        tokens = await self._ask(found.token_endpoint, fields, Tokens)
        await self._learn_key(tokens.access_token)
        return tokens

    async def _learn_key(self, access_token: str) -> None:
        """Fetch the key of a token that the provider itself has just given, if it is a new one."""
        try:
            name = _header_of(access_token).get("kid")
        except Unauthenticated:
            return  # a token that only the provider can read; `verify` will refuse it
        await self._keys.find(lambda keys: choose(keys, name), trusted=True)

    async def _ask(self, endpoint: str, fields: dict[str, str], kind: type[T]) -> T:
        headers = {"Accept": "application/json"}
        secret = await self._secret()
        if secret is None:
            fields = {**fields, "client_id": self._client_id}
        else:
            headers["Authorization"] = basic(self._client_id, secret)
        answer = await self._http.post_form(
            self._reached(endpoint), fields, service=SERVICE, headers=headers
        )
        if answer.succeeded:
            return _read(answer.body, kind)
        if answer.status < _SERVER_FAULT:
            self._refuse(answer.status, _read(answer.body, _Refusal).error)
        raise Unavailable(f"{SERVICE} cannot exchange logins at the moment.")

    def _refuse(self, status: int, error: str) -> None:
        if error in REFUSALS:
            raise REFUSALS[error]
        if error in _OUR_FAULT:
            log.error("provider_refuses_our_client", reason=error)
            raise CredentialsRefused(f"{SERVICE} refuses the login of this instance itself.")
        if status != _TOO_MANY:
            raise Unauthenticated("The login is not valid or has expired; log in again.")

    async def _secret(self) -> str | None:
        try:
            secret = await self._secrets.read_secret(CLIENT_SECRET)
        except NotFound:
            return None  # a public client
        return secret.data["client_secret"]

    async def _discover(self) -> Discovery:
        try:
            found = await self._http.get_json(
                f"{self._reached_at}/.well-known/openid-configuration", service=SERVICE
            )
            discovery = convert(found, Discovery)
        except (Invalid, PeerFailed) as fault:
            raise Unavailable(f"{SERVICE} describes itself wrongly.") from fault
        if discovery.issuer != self._issuer:
            raise Unavailable(f"{SERVICE} gives another issuer than the configured one.")
        return discovery

    async def _fetch_keys(self) -> dict[str, PublicKey]:
        discovery = await self._discovery.get()
        try:
            address = self._reached(discovery.jwks_uri)
            found = await self._http.get_json(address, service=SERVICE)
            published = convert(found, _KeySet).keys
        except (Invalid, PeerFailed) as fault:
            raise Unavailable(f"{SERVICE} publishes no keys.") from fault
        keys = read_keys(published)
        if not keys:
            raise Unavailable(f"{SERVICE} publishes no key that we can use.")
        return keys

    def _reached(self, endpoint: str) -> str:
        """Return an endpoint at the address where we reach the provider."""
        return _moved(endpoint, self._issuer.rstrip("/"), self._reached_at)

    def _for_people(self, endpoint: str) -> str:
        """Return an endpoint at the address where people reach the provider."""
        return _moved(endpoint, self._reached_at, self._issuer.rstrip("/"))

    def _report(self, unknown: frozenset[str]) -> None:
        fresh = unknown - self._reported
        # Bounded, since a provider could send a new name with every token.
        if fresh and len(self._reported) < _MOST_REPORTED:
            self._reported |= fresh
            log.warning("claims_that_no_table_knows", claims=sorted(fresh))


def replace_refresh(tokens: Tokens, refresh_token: str) -> Tokens:
    """Return the tokens with this refresh token."""
    return Tokens(
        access_token=tokens.access_token,
        refresh_token=refresh_token,
        expires_in=tokens.expires_in,
        token_type=tokens.token_type,
    )


def basic(client_id: str, secret: str) -> str:
    """Return the header by which a client shows its secret (RFC 6749, section 2.3.1)."""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _moved(endpoint: str, from_: str, to: str) -> str:
    return to + endpoint.removeprefix(from_) if endpoint.startswith(f"{from_}/") else endpoint


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return decode(body, kind)
    except Invalid as fault:
        raise Unavailable(f"{SERVICE} answered something that is no token.") from fault


def _header_of(token: str) -> dict[str, object]:
    """Read a token's header; its size is judged before anything is parsed."""
    if len(token) > _LONGEST_TOKEN or not token.isascii():
        raise Unauthenticated("This is not an access token.")
    first = token.partition(".")[0]
    try:
        raw = base64.urlsafe_b64decode(first + "=" * (-len(first) % 4))
        return decode(raw, dict[str, object])
    except (Invalid, binascii.Error) as fault:
        raise Unauthenticated("This is not an access token.") from fault
