"""Logging in, and the people of this instance: `/auth`, `/users`, `/config/keycloak`."""

from typing import TypeVar
from urllib.parse import parse_qsl

from quart import Blueprint, Response, request

from cvf_app.errors import Invalid
from cvf_app.parts import use
from cvf_app.principal import UserId
from cvf_app.users.identity.device import DEVICE_GRANT
from cvf_app.users.model import (
    DeviceRequest,
    LoginInfo,
    NewUser,
    RegisteredUser,
    TokenRequest,
    Tokens,
    UserChange,
)
from cvf_app.users.people import People
from cvf_app.users.service import Users
from cvf_app.web.access import ANYONE_KNOWN, PEOPLE, allow, in_maintenance, principal, public
from cvf_app.web.io import DONE, body, payload, reply
from cvf_app.wire import convert

T = TypeVar("T")
bp = Blueprint("users", __name__)


@bp.post("/auth/token")
@in_maintenance
@public
async def exchange() -> Response:
    """Exchange a code or a device code with its PKCE verifier, or a refresh token, for tokens."""
    asked = await _sent(TokenRequest)
    response = reply(await _exchange(asked))
    response.headers["Pragma"] = "no-cache"  # RFC 6749, section 5.1
    return response


@bp.post("/auth/device")
@in_maintenance
@public
async def start_device() -> Response:
    """Begin a login by device code: a short code for the person, a long one for the machine."""
    asked = await _sent(DeviceRequest)
    return reply(await use(Users).start_device(asked.code_challenge))


@bp.get("/auth/user-info")
@allow(*ANYONE_KNOWN)
async def user_info() -> Response:
    """Return the user who asks."""
    return reply(await use(Users).get(principal().user_id))


@bp.get("/users/")
@allow(*PEOPLE)
async def list_users() -> Response:
    """Return all local users."""
    return reply(await use(Users).list_users())


@bp.post("/users/")
@allow(*PEOPLE)
async def register() -> Response:
    """Give a person an account, a local user and a key; the first password is told this once."""
    new = await body(NewUser)
    done = await use(Users).register(new, principal().role)
    return reply(
        RegisteredUser.of(done.user, done.password), location=f"/users/{done.user.user_id}"
    )


@bp.get("/users/<user_id>")
@allow(*PEOPLE)
async def get_user(user_id: str) -> Response:
    """Return a local user."""
    return reply(await use(Users).get(UserId(user_id)))


@bp.get("/users/local")
@allow(*PEOPLE)
async def list_local_users() -> Response:
    """Return the users who have a key here; the others may only ask through the network."""
    return reply(await use(Users).list_local())


@bp.patch("/users/<user_id>")
@allow(*PEOPLE)
async def change_user(user_id: str) -> Response:
    """Change the given fields of a local user."""
    change = await body(UserChange)
    return reply(await use(People).change(UserId(user_id), change, principal()))


@bp.delete("/users/<user_id>")
@allow(*PEOPLE)
async def delete_user(user_id: str) -> Response:
    """Remove a local user and their key; the account at the provider stays."""
    await use(People).delete(UserId(user_id), principal())
    return reply(DONE)


@bp.post("/users/<user_id>/activate")
@allow(*PEOPLE)
async def activate(user_id: str) -> Response:
    """Let a local user be one again."""
    await use(People).change(UserId(user_id), UserChange(active=True), principal())
    return reply(DONE)


@bp.post("/users/<user_id>/deactivate")
@allow(*PEOPLE)
async def deactivate(user_id: str) -> Response:
    """Keep a local user out, with everything that is theirs."""
    await use(People).change(UserId(user_id), UserChange(active=False), principal())
    return reply(DONE)


@bp.post("/users/<user_id>/permit-login")
@allow(*PEOPLE)
async def permit_login(user_id: str) -> Response:
    """Give a local user the key without which nobody logs in."""
    await use(People).permit_login(UserId(user_id), principal())
    return reply(DONE)


@bp.post("/users/<user_id>/revoke-login")
@allow(*PEOPLE)
async def revoke_login(user_id: str) -> Response:
    """Destroy a local user's key: they are out within the minute."""
    await use(People).revoke_login(UserId(user_id), principal())
    return reply(DONE)


@bp.get("/config/keycloak")
@public
async def login_info() -> Response:
    """Return where a client sends people to log in."""
    found = await use(Users).provider()
    url, separator, realm = found.issuer.rpartition("/realms/")
    return reply(
        LoginInfo(
            # A provider that is no Keycloak has no realms: its issuer is the whole address.
            url=url if separator else found.issuer,
            realm=realm if separator else "",
            client_id=found.client_id,
            issuer=found.issuer,
            authorization_endpoint=found.authorization_endpoint,
            device_authorization_endpoint=found.device_authorization_endpoint,
            end_session_endpoint=found.end_session_endpoint,
        )
    )


async def _sent(kind: type[T]) -> T:
    """Read JSON, or a form as OAuth clients send it."""
    if request.mimetype == "application/x-www-form-urlencoded":
        form = parse_qsl((await payload()).decode(errors="replace"), keep_blank_values=True)
        return convert(dict(form), kind)
    return await body(kind)


async def _exchange(asked: TokenRequest) -> Tokens:
    match asked.grant_type:
        case "authorization_code":
            needed: tuple[str, ...] = ("code", "code_verifier", "redirect_uri")
        case "refresh_token":
            needed = ("refresh_token",)
        case grant if grant == DEVICE_GRANT:
            needed = ("device_code", "code_verifier")
        case _:
            raise Invalid(
                "Only the grants authorization_code, refresh_token and device_code are taken here.",
                path="$.grant_type",
            )
    for name in needed:
        if not getattr(asked, name):
            raise Invalid(f"This grant needs {name}.", path=f"$.{name}")
    if asked.grant_type == "refresh_token":
        return await use(Users).refresh(asked.refresh_token)
    if asked.grant_type == DEVICE_GRANT:
        return await use(Users).poll_device(asked.device_code, asked.code_verifier)
    return await use(Users).exchange_code(asked.code, asked.code_verifier, asked.redirect_uri)
