# Canaille has no types and is mended through internals; this runs alone, in its environment.
# ruff: noqa: ANN001, ANN003, ANN202, ICN001
"""Make Canaille's database, our clients and the first person, in one call.

`python provision.py FOLDER PORT` with a JSON object on standard input: `users` (list with
`user_name`, `password` and fields of Canaille), `clientId`, `clientSecret`, `scimId`,
`scimSecret`, `redirects`, `logoutRedirects`. Nothing secret stands in an argument. Calling it
again changes nothing but what was given anew; a person's password is set only once.
"""

import datetime
import json
import os
import sys
from pathlib import Path

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from settings import settings


def provision(folder: Path, port: int, given: dict) -> dict:
    """Bring the provider to what is asked for, and return the subject of each person."""
    # init_backend makes the schema or migrates it.
    app = create_app(config=settings(folder, port), init_backend=True)
    with app.app_context(), Backend.instance.session():
        store = Backend.instance
        for person in given["users"]:
            _person(store, dict(person))
        _clients(store, port, given)
        names = [person["user_name"] for person in given["users"]]
        # The patched access token carries the user name as `sub`; it is never given to another.
        return {"subjects": {name: name for name in names}}


def _person(store, fields: dict) -> None:
    password = fields.pop("password")
    if store.get(models.User, user_name=fields["user_name"]):
        return
    made = models.User(**fields)
    store.save(made)
    store.set_user_password(made, password)


def _clients(store, port: int, given: dict) -> None:
    shared = {
        "client_uri": f"http://127.0.0.1:{port}",
        "client_id_issued_at": datetime.datetime.now(datetime.UTC),
        "token_endpoint_auth_method": "client_secret_basic",
        # The default is "none": an unsigned id token.
        "id_token_signed_response_alg": "RS256",
    }
    web = _put_client(
        store,
        given["clientId"],
        client_name="Cafe Variome",
        client_secret=given["clientSecret"],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        scope=["openid", "profile", "email", "groups", "offline_access"],
        redirect_uris=given["redirects"],
        post_logout_redirect_uris=given["logoutRedirects"],
        **shared,
    )
    web.audience = [web]
    store.save(web)
    # Any client_credentials client is a full administrator by SCIM: this is the only one.
    scim = _put_client(
        store,
        given["scimId"],
        client_name="Cafe Variome, accounts",
        client_secret=given["scimSecret"],
        grant_types=["client_credentials"],
        response_types=[],
        scope=["scim"],
        redirect_uris=[],
        **shared,
    )
    scim.audience = [scim]
    store.save(scim)


def _put_client(store, client_id: str, **fields):
    client = store.get(models.Client, client_id=client_id) or models.Client(client_id=client_id)
    for name, value in fields.items():
        setattr(client, name, value)
    store.save(client)
    return client


if __name__ == "__main__":
    os.umask(0o077)
    target = Path(sys.argv[1])
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    print(json.dumps(provision(target, int(sys.argv[2]), json.load(sys.stdin))))
