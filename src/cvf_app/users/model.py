"""Local users: who they are at the identity provider, and what they may do here."""

from typing import Annotated

import msgspec

from cvf_app.principal import Role, UserId
from cvf_app.wire import Heard, Wire

Username = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$")]


class NewUser(Wire, frozen=True, kw_only=True):
    """A person to be given an account at the provider, a local user and a key."""

    username: Username
    email: str
    first_name: str = ""
    last_name: str = ""
    affiliation: str = ""
    role: Role = Role.USER


class User(Wire, frozen=True, kw_only=True):
    """A local user in the published shape."""

    user_id: UserId
    email: str
    username: str
    first_name: str
    last_name: str
    affiliation: str
    role: Role
    active: bool
    allow_login: bool
    budget: int


class TokenRequest(Heard, frozen=True, kw_only=True):
    """What a client sends to exchange a code (with its PKCE verifier) or a refresh token."""

    grant_type: str
    code: str = ""
    code_verifier: str = ""
    redirect_uri: str = ""
    refresh_token: str = ""


class Tokens(Heard, frozen=True, kw_only=True):
    """A pair of tokens; lifetimes are seconds."""

    access_token: str
    refresh_token: str = ""
    expires_in: int = 0
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
