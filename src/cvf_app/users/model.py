"""Local users: who they are at the identity provider, and what they may do here."""

from typing import Annotated, Self

import msgspec

from cvf_app.principal import Role, UserId
from cvf_app.wire import Heard, Wire

# The end is written out: `$` would let a line break pass.
END = r"(?![\s\S])"
Username = Annotated[str, msgspec.Meta(pattern=f"^[A-Za-z0-9][A-Za-z0-9._@+-]{{0,127}}{END}")]
Email = Annotated[
    str, msgspec.Meta(pattern=rf"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+{END}", max_length=254)
]
Line = Annotated[str, msgspec.Meta(pattern=rf"^[^\x00-\x1f\x7f\u2028\u2029]*{END}", max_length=200)]
Budget = Annotated[int, msgspec.Meta(ge=0, le=100)]
FULL_BUDGET = 100


class NewUser(Wire, frozen=True, kw_only=True):
    """A person to be given an account at the provider, a local user and a key."""

    username: Username
    email: Email
    first_name: Line = ""
    last_name: Line = ""
    affiliation: Line = ""
    role: Role = Role.USER
    budget: Budget = FULL_BUDGET


class UserChange(Wire, frozen=True, kw_only=True):
    """Fields of a local user to change; what is not given stays."""

    email: Email | msgspec.UnsetType = msgspec.UNSET
    first_name: Line | msgspec.UnsetType = msgspec.UNSET
    last_name: Line | msgspec.UnsetType = msgspec.UNSET
    affiliation: Line | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    active: bool | msgspec.UnsetType = msgspec.UNSET
    budget: Budget | msgspec.UnsetType = msgspec.UNSET


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


class RegisteredUser(User, frozen=True, kw_only=True):
    """A new local user; `initialPassword` is there if we made the account, and is told once."""

    initial_password: str | None = None

    @classmethod
    def of(cls, user: User, password: str | None) -> Self:
        """Put a user and the first password together."""
        return cls(**msgspec.structs.asdict(user), initial_password=password)


class LoginInfo(Wire, frozen=True, kw_only=True):
    """Where people log in: the three published fields, and what any OpenID client needs."""

    url: str
    realm: str
    # Published with an underscore.
    client_id: str = msgspec.field(name="client_id")
    issuer: str
    authorization_endpoint: str
    device_authorization_endpoint: str | None = None
    end_session_endpoint: str | None = None


class TokenRequest(Heard, frozen=True, kw_only=True, rename=None):
    """What a client sends for tokens: a code of either kind with its verifier, or a refresh."""

    grant_type: str
    code: str = ""
    code_verifier: str = ""
    redirect_uri: str = ""
    refresh_token: str = ""
    device_code: str = ""


class DeviceRequest(Wire, frozen=True, kw_only=True, rename=None):
    """What a client sends to begin a login by device code: the S256 challenge of its verifier."""

    code_challenge: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{43}$")]


class DeviceLogin(Heard, frozen=True, kw_only=True, rename=None, omit_defaults=False):
    """A login that waits for a person's consent elsewhere (RFC 8628, section 3.2); seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: int
    interval: int = 5


class Tokens(Heard, frozen=True, kw_only=True, rename=None, omit_defaults=False):
    """A pair of tokens; lifetimes are seconds."""

    access_token: str
    refresh_token: str = ""
    expires_in: int = 0
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
