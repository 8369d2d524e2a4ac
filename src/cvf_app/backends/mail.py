"""The mail server (SMTP, RFC 5321) behind two small classes; no other file knows the driver.

Promises: a server that is away, hangs or refuses us becomes `MailDown` within thirty seconds. TLS
is checked against the authorities of the system, or those of `Email.SMTP.CAFile`; `auto` means TLS
at once on port 465 (RFC 8314) and elsewhere STARTTLS when it is offered (RFC 3207). The password
goes over an unencrypted connection only where `Security` is `none`. What a server answers is told
by its code alone, since its words may name the recipient.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as WIRE

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from cvf_app.backends.keystore import KeyStore
from cvf_app.config import Smtp
from cvf_app.errors import CredentialsRefused, NotFound, PeerFailed, Unavailable

PATIENCE_SECONDS = 30.0
SECRET = "mail/smtp"  # noqa: S105 - where the password stands in the key store
_GOODBYE_SECONDS = 3.0
_TLS_PORT = 465
_PERMANENT = 500
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")


class MailDown(Unavailable):
    """The mail server takes no letters from us now."""


class LoginRefused(MailDown, CredentialsRefused):
    """The mail server does not accept our user name and password."""


class LetterRefused(PeerFailed):
    """The mail server does not take this letter; `for_good` says whether it ever will."""

    def __init__(self, sentence: str, *, for_good: bool) -> None:
        """Say why, and whether trying again is of use."""
        super().__init__(sentence)
        self.for_good = for_good


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open connection to the mail server; `tls` is the protocol in use, or empty."""

    client: SMTP
    tls: str
    logged_in: bool
    patience: float

    async def deliver(self, message: EmailMessage, sender: str, recipient: str) -> None:
        """Hand a message over; when this returns the server has taken it.

        Raises:
            LetterRefused: the server does not take this one.
            MailDown: the connection broke or hangs, or the server takes nothing from us.
        """
        content = message.as_bytes(policy=WIRE)
        with _edge(self.patience):
            async with asyncio.timeout(self.patience):
                await self.client.sendmail(sender, [recipient], content)


class Relay:
    """The mail server of the configuration."""

    def __init__(
        self,
        settings: Smtp,
        keys: KeyStore,
        our_name: str,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Send through this server; `our_name` is the domain that we greet it with."""
        self._patience = patience
        self._settings = settings
        self._keys = keys
        self._our_name = our_name
        self._trusted: ssl.SSLContext | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Connect, encrypt and log in as configured.

        Raises:
            LoginRefused: the server does not accept our login.
            MailDown: it does not answer, cannot be trusted or takes nothing from us.
        """
        client = self._client()
        try:
            with _edge(self._patience):
                async with asyncio.timeout(self._patience):
                    session = await self._open(client)
            yield session
            # All that we wanted is done; a server that takes our leave badly changes nothing.
            with suppress(SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await client.quit()
        finally:
            client.close()

    async def _open(self, client: SMTP) -> Session:
        await client.connect()
        secured = client.get_transport_info("ssl_object")
        tls = str(secured.version()) if isinstance(secured, ssl.SSLObject) else ""
        login = self._settings.authentication
        if login.required:
            if not tls and self._settings.security != "none":
                raise MailDown(
                    "The mail server offers no encryption, so the password was not sent; "
                    "Email.SMTP.Security 'none' would send it in the clear."
                )
            username, password = await self._login()
            await client.login(username, password)
        return Session(client=client, tls=tls, logged_in=login.required, patience=self._patience)

    async def _login(self) -> tuple[str, str]:
        login = self._settings.authentication
        if login.password:
            return login.username, login.password
        try:
            kept = (await self._keys.read_secret(SECRET)).data
        except NotFound as fault:
            raise LoginRefused(
                "There is no password for the mail server: neither Email.SMTP.Authentication."
                f"Password nor the secret '{SECRET}' of the key store."
            ) from fault
        return kept.get("username") or login.username, kept.get("password", "")

    def _client(self) -> SMTP:
        given = self._settings
        port = int(given.port)
        at_once = given.security == "tls" or (given.security == "auto" and port == _TLS_PORT)
        starttls = {"auto": None, "starttls": True, "tls": False, "none": False}[given.security]
        return SMTP(
            hostname=given.host,
            port=port,
            use_tls=at_once,
            start_tls=False if at_once else starttls,
            tls_context=None if given.security == "none" else self._trust(),
            local_hostname=self._our_name,
            timeout=self._patience,
        )

    def _trust(self) -> ssl.SSLContext:
        if self._trusted is None:
            trusted = ssl.create_default_context()
            if self._settings.ca_file:
                try:
                    trusted.load_verify_locations(cafile=self._settings.ca_file)
                except (OSError, ssl.SSLError) as fault:
                    raise MailDown(
                        "Email.SMTP.CAFile is no readable file of certificates (PEM)."
                    ) from fault
            self._trusted = trusted
        return self._trusted


@contextmanager
def _edge(patience: float) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except SMTPAuthenticationError as fault:
        if fault.code < _PERMANENT:
            raise MailDown(f"The mail server puts our login off ({_code(fault)}).") from fault
        raise LoginRefused(
            f"The mail server refuses our user name or password ({_code(fault)})."
        ) from fault
    except SMTPRecipientsRefused as fault:
        raise _refused(fault.recipients[0]) from fault
    except SMTPDataError as fault:
        raise _refused(fault) from fault
    except SMTPResponseException as fault:
        # Also a sender that it refuses: no other letter of ours would fare better.
        raise MailDown(f"The mail server takes nothing from us ({_code(fault)}).") from fault
    except TimeoutError as fault:
        raise MailDown(f"The mail server did not answer within {patience:g} seconds.") from fault
    except (SMTPException, OSError) as fault:
        raise MailDown(_trouble(fault)) from fault


def _refused(fault: SMTPRecipientRefused | SMTPDataError) -> LetterRefused:
    for_good = fault.code >= _PERMANENT
    how = "refuses" if for_good else "puts off"
    return LetterRefused(f"The mail server {how} this letter ({_code(fault)}).", for_good=for_good)


def _code(fault: SMTPResponseException) -> str:
    """Return the codes of an answer (RFC 5321, RFC 3463) without its words."""
    enhanced = _ENHANCED.match(fault.message)
    return f"{fault.code} {enhanced[0]}" if enhanced else str(fault.code)


def _trouble(fault: BaseException) -> str:
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The certificate of the mail server is not trusted ({cause.verify_message}); "
                "Email.SMTP.CAFile names the authority of a server of your own."
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(fault, ssl.SSLError):
        return "The mail server and we agree on no encryption."
    return "The mail server cannot be reached, or broke off."
