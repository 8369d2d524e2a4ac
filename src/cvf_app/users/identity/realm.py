"""What we need in a Keycloak realm, as Keycloak writes it; `scripts/setup_keycloak.py` makes it so.

Pure. Promises: nobody logs in with a password sent to us, every code flow needs PKCE with S256, a
login's token names us as its audience and says nothing of a person's rights elsewhere.
"""

from cvf_app.backends.keycloak import RIGHTS_SCOPE, Representation
from cvf_app.config import Config, Email
from cvf_app.principal import Role
from cvf_app.users.identity.configured import client_id, redirects
from cvf_app.users.identity.keycloak import TARGET_SCOPE

# Of loopback addresses Keycloak takes any port when none is registered (RFC 8252, 7.3).
LOOPBACK = "http://127.0.0.1/callback"
# What a login's token says. Not `roles`: it would carry a person's rights in the whole realm, and
# every client that they have a role of, to each node that sees the token.
SCOPES = ("basic", "profile", "email", "acr")
# Keycloak gives it to a client with a service account by itself: that token's claims.
LEFT_ALONE = frozenset({"service_account"})
# What may be asked for beside it: by the service account, whose token must show its right.
OFFERED = (RIGHTS_SCOPE,)
# Makes, lists, changes and locks accounts, and sends their mails; nothing of realm and clients.
SERVICE_RIGHTS = ("manage-users",)
# For the administrators of the realm to see. What a person may do here is decided here.
ROLES = {
    Role.DEVELOPER: "Looks after data and people",
    Role.DATA_ADMIN: "Looks after data",
    Role.SERVER_ADMIN: "Looks after people and the server",
    Role.USER: "Asks questions",
}
AUDIENCE = "oidc-audience-mapper"
TLS_PORT = 465


def new_realm(config: Config) -> Representation:
    """Return the realm as it is made; one that is there keeps its own settings."""
    return {
        "realm": config.keycloak.realm,
        "enabled": True,
        "sslRequired": "external",
        "registrationAllowed": False,
        "resetPasswordAllowed": bool(config.email.smtp.host),
        "bruteForceProtected": True,
        "defaultSignatureAlgorithm": "RS256",
        "accessTokenLifespan": 300,
    }


def target_scope(target: str) -> Representation:
    """Return the optional client scope by which logins are exchanged for another service."""
    return {
        "name": f"{TARGET_SCOPE}{target}",
        "description": f"Exchange a login for one that only {target} takes",
        "protocol": "openid-connect",
        "attributes": {"include.in.token.scope": "false", "display.on.consent.screen": "false"},
        "protocolMappers": [audience_mapper("target", target)],
    }


def our_client(config: Config) -> Representation:
    """Return our client as it should be."""
    return {
        "clientId": client_id(config),
        "name": "Cafe Variome",
        "protocol": "openid-connect",
        "enabled": True,
        "publicClient": False,
        "clientAuthenticatorType": "client-secret",
        "standardFlowEnabled": True,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": True,
        "fullScopeAllowed": False,
        "redirectUris": sorted({*redirects(config), LOOPBACK}),
        "webOrigins": [],
        "attributes": {
            "pkce.code.challenge.method": "S256",
            "oauth2.device.authorization.grant.enabled": "true",
            "standard.token.exchange.enabled": "true",
            # The same addresses as for logins.
            "post.logout.redirect.uris": "+",
        },
    }


def audience_mapper(name: str, client: str) -> Representation:
    """Return a mapper that puts a client into the audience of access tokens alone."""
    return {
        "name": f"audience: {name}",
        "protocol": "openid-connect",
        "protocolMapper": AUDIENCE,
        "config": {
            "included.client.audience": client,
            "access.token.claim": "true",
            "id.token.claim": "false",
            "introspection.token.claim": "true",
        },
    }


def mail_server(email: Email) -> dict[str, str]:
    """Return the realm's mail server from ours; Keycloak takes texts only."""
    smtp, login = email.smtp, email.smtp.authentication
    tls = smtp.security == "tls" or (smtp.security == "auto" and int(smtp.port) == TLS_PORT)
    wanted = {
        "host": smtp.host,
        "port": str(smtp.port),
        "from": email.from_.address or email.sender,
        "fromDisplayName": email.from_.name,
        "ssl": _word(tls),
        "starttls": _word(not tls and smtp.security != "none"),
        "auth": _word(login.required),
    }
    if login.required:
        wanted |= {"user": login.username, "password": login.password}
    return wanted


def _word(flag: bool) -> str:  # noqa: FBT001 - it is the value itself
    return "true" if flag else "false"
