"""Who knows people: what we ask of any OpenID provider, and what some can do beside it.

`Identity` is asked on every login and for every token. `Accounts` is a second, optional thing:
a provider that lets us make accounts offers it, another leaves that to its own administrators.
"""

from datetime import datetime
from typing import Protocol

from cvf_app.users.model import DeviceLogin, Tokens
from cvf_app.wire import Wire


class Provider(Wire, frozen=True, kw_only=True):
    """Where a client sends people to log in."""

    issuer: str
    client_id: str
    authorization_endpoint: str
    device_authorization_endpoint: str | None = None
    end_session_endpoint: str | None = None


class Claims(Wire, frozen=True, kw_only=True):
    """What a verified access token says: the provider's lasting name of a person, and when.

    The names and the address are there if the provider puts them into its tokens.
    """

    subject: str
    issued_at: datetime | None
    expires_at: datetime
    username: str = ""
    email: str = ""
    first_name: str = ""
    last_name: str = ""


class Account(Wire, frozen=True, kw_only=True):
    """A person's account at the provider; `subject` is what its tokens will say."""

    account_id: str
    subject: str
    username: str
    active: bool
    email: str = ""


class NewAccount(Wire, frozen=True, kw_only=True):
    """An account to be made at the provider, or what one is to say from now on."""

    username: str
    email: str
    first_name: str
    last_name: str
    affiliation: str = ""


class Identity(Protocol):
    """An OpenID provider as we use it."""

    async def provider(self) -> Provider:
        """Return where a client sends people to log in.

        Raises:
            Unavailable: the provider does not say and never has.
        """

    async def exchange_code(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """Exchange a code of the authorization code flow for tokens.

        Raises:
            Invalid: a login may not return to this address.
            Unauthenticated: the provider refuses the code.
            Unavailable: the provider does not answer, or refuses ourselves.
        """

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for new tokens.

        Raises:
            Unauthenticated: the provider refuses it.
            Unavailable: the provider does not answer, or refuses ourselves.
        """

    async def start_device(self, challenge: str) -> DeviceLogin:
        """Begin a login by device code (RFC 8628), bound to a PKCE challenge (S256).

        Raises:
            Invalid: the provider does not offer it.
            Unavailable: the provider does not answer, or refuses ourselves.
        """

    async def poll_device(self, device_code: str, verifier: str) -> Tokens:
        """Exchange a device code for tokens, once the person has agreed.

        Raises:
            Pending: nobody has agreed yet.
            SlowDown: we ask too often.
            Unauthenticated: nobody agreed in time, or the person said no.
            Unavailable: the provider does not answer, or refuses ourselves.
        """

    async def exchange_for(self, token: str, audience: str) -> Tokens:
        """Exchange a person's access token for one that only `audience` takes (RFC 8693).

        Raises:
            Unauthenticated: the token is not valid any more.
            Unavailable: the provider cannot, has not been told of this audience, or is down.
        """

    async def verify(self, access_token: str) -> Claims:
        """Check an access token on our own, with the provider's published keys.

        Raises:
            Unauthenticated: it is not a valid access token for us.
            Unavailable: there are no keys to check it with.
        """


class Accounts(Protocol):
    """A provider that lets us look after its accounts."""

    @property
    def invites(self) -> bool:
        """Whether the provider mails its own link to set a password; else we give a first one."""
        ...

    async def find(self, username: str) -> Account | None:
        """Return the account of this name, or none; letter case does not count."""

    async def create(self, account: NewAccount, password: str | None) -> Account:
        """Make an account with a first password; with none, if the provider invites.

        Raises:
            Conflict: there is one of this name or e-mail address.
            Invalid: the provider does not take the name or the e-mail address.
        """

    async def invite(self, account: Account) -> None:
        """Have the provider mail its link to set a password.

        Raises:
            Unavailable: the provider does not invite, or cannot now.
        """

    async def delete(self, account: Account) -> None:
        """Remove an account of our making whose registration failed; one that is gone is fine."""

    async def change(self, account: Account, person: NewAccount) -> None:
        """Give an account other names, another e-mail address and affiliation; its name stays.

        Raises:
            Conflict: another account has this e-mail address.
        """

    async def set_password(self, account: Account, password: str) -> None:
        """Give an account another password."""

    async def set_active(self, account: Account, *, active: bool) -> None:
        """Let an account log in, or not."""

    async def list_accounts(self) -> tuple[Account, ...]:
        """Return all accounts."""
