"""Which identity provider the configuration asks for, and whether it lets us make accounts.

`Identity.Provider` `keycloak`: the realm of the block `Keycloak`, with its accounts. `oidc`: any
provider by its issuer; its accounts are its own affair, except for the embedded one of local mode.
"""

from cvf_app.backends.http import Http
from cvf_app.backends.keycloak import KeycloakServer
from cvf_app.backends.keystore import KeyStore
from cvf_app.clock import Clock
from cvf_app.config import Config, Mode
from cvf_app.errors import Invalid, NotFound, Unavailable
from cvf_app.users.identity import Accounts, Identity
from cvf_app.users.identity.keycloak import Keycloak, KeycloakAccounts
from cvf_app.users.identity.oidc import CLIENT_SECRET, Oidc
from cvf_app.users.identity.scim import Scim


def issuer(config: Config) -> str:
    """Return the provider's issuer, as its tokens name it."""
    if config.identity.provider == "oidc":
        return config.identity.issuer
    return _realm(config.keycloak.url, config.keycloak.realm)


def client_id(config: Config) -> str:
    """Return the name of our client at the provider."""
    return config.identity.client or config.keycloak.client


def redirects(config: Config) -> tuple[str, ...]:
    """Return the addresses that a login may return to, from either generation of the file."""
    given = config.keycloak
    return tuple(dict.fromkeys(filter(None, (given.redirect_url, *given.redirect_urls))))


def people(
    config: Config, http: Http, keys: KeyStore, server: KeycloakServer, clock: Clock
) -> tuple[Identity, Accounts | None]:
    """Make who knows people, and who lets us make accounts, if anybody does.

    Raises:
        Invalid: the configuration does not say where the provider is.
    """
    given = config.keycloak
    if config.identity.provider == "keycloak":
        check_keycloak(config)
        keycloak = Keycloak(
            http,
            keys,
            clock,
            server,
            issuer=issuer(config),
            client_id=client_id(config),
            backend_url=_realm(given.backend_url, given.realm) if given.backend_url else "",
            redirects=redirects(config),
        )
        return keycloak, KeycloakAccounts(server, next(iter(redirects(config)), ""))
    oidc = Oidc(
        http,
        keys,
        clock,
        issuer=issuer(config),
        client_id=client_id(config),
        backend_url=given.backend_url,
        redirects=redirects(config),
    )
    embedded = config.mode is Mode.LOCAL
    return oidc, Scim(http, keys, clock, issuer=issuer(config)) if embedded else None


def keycloak_server(config: Config, keys: KeyStore) -> KeycloakServer:
    """Make the connection to Keycloak; nothing is opened before it is used."""

    async def secret() -> str:
        try:
            return (await keys.read_secret(CLIENT_SECRET)).data["client_secret"]
        except NotFound as fault:
            raise Unavailable(
                "The key store has no secret of our client at Keycloak: "
                "run scripts/setup_keycloak.py."
            ) from fault

    given = config.keycloak
    return KeycloakServer(
        url=given.backend_url or given.url,
        realm=given.realm,
        client_id=client_id(config),
        secret=secret,
    )


def check_keycloak(config: Config) -> None:
    """Let a configuration pass that says where its Keycloak is.

    Raises:
        Invalid: it does not; the path says what is missing.
    """
    given = config.keycloak
    for name, value in (
        ("URL", given.url),
        ("Realm", given.realm),
        ("Client", client_id(config)),
    ):
        if not value:
            raise Invalid(f"Keycloak needs its {name}.", path=f"$.Keycloak.{name}")


def _realm(url: str, realm: str) -> str:
    return f"{url.rstrip('/')}/realms/{realm}"
