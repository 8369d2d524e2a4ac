"""The configuration of Canaille for one instance, and the key it signs with.

Runs in Canaille's virtual environment. Every setting that is not Canaille's default has
a reason beside it.
"""

import json
import os
import secrets
from pathlib import Path

from joserfc.jwk import RSAKey

ACCESS_SECONDS = 900
"""A locked person keeps an access token until it expires, so its life is short."""


def keys(folder: Path) -> dict:
    """Return the signing key and the session secret: made once, and kept (mode 0600)."""
    kept = folder / "provider.json"
    if kept.exists():
        return json.loads(kept.read_text())
    made = RSAKey.generate_key(2048, auto_kid=True).as_dict(private=True)
    state = {
        "sessionSecret": secrets.token_urlsafe(48),
        "signingKey": {name: value for name, value in made.items() if isinstance(value, str)},
    }
    fresh = kept.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    fresh.chmod(0o600)
    fresh.replace(kept)
    return state


def settings(folder: Path, port: int) -> dict:
    """Return Canaille's configuration for the instance in this folder, on this loopback port."""
    state = keys(folder)
    lifetime = int(os.environ.get("CV3_ACCESS_SECONDS", ACCESS_SECONDS))
    return {
        "SECRET_KEY": state["sessionSecret"],
        "SERVER_NAME": f"127.0.0.1:{port}",
        # Without it the issuer says https, which nothing here speaks.
        "PREFERRED_URL_SCHEME": "http",
        # Every port of one host shares its cookies, so two instances need two names.
        "SESSION_COOKIE_NAME": f"cv3_identity_{port}",
        "SESSION_COOKIE_SAMESITE": "Lax",
        "OAUTH2_TOKEN_EXPIRES_IN": {
            "authorization_code": lifetime,
            "refresh_token": lifetime,
            "client_credentials": 300,
        },
        "CANAILLE": {
            "NAME": "Cafe Variome (local)",
            "DATABASE": "sql",
            # None keeps it from probing port 25 and enabling mail when something answers there.
            "SMTP": None,
            "SMPP": None,
            "ENABLE_REGISTRATION": False,
            "ENABLE_PASSWORD_RECOVERY": False,
            "EMAIL_CONFIRMATION": False,
            "CAPTCHA_ENABLED": False,
            "ENABLE_INTRUDER_LOCKOUT": True,
            # The default lets everyone manage others; people only edit themselves and log in.
            "ACL": {"DEFAULT": {"PERMISSIONS": ["edit_self", "use_oidc"]}},
        },
        "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{folder.resolve()}/canaille.sqlite"},
        "CANAILLE_OIDC": {
            "DYNAMIC_CLIENT_REGISTRATION_OPEN": False,
            # Our own client is on loopback: nobody is asked for consent to it.
            "TRUSTED_DOMAINS": ["127.0.0.1"],
            "ACTIVE_JWKS": [state["signingKey"]],
        },
        "CANAILLE_SCIM": {"ENABLE_SERVER": True},
    }
