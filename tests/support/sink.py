"""A real mail server on loopback (aiosmtpd) that keeps what it is given, for tests."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

LOGIN = ("cafe", "s3cret word")


@dataclass
class Taken:
    """One letter as it arrived."""

    sender: str
    recipient: str
    message: EmailMessage
    encrypted: bool
    logged_in: bool


@dataclass
class Sink:
    """What has arrived, and how the server behaves."""

    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    # Answers to RCPT by recipient; anything else is taken.
    refuses: dict[str, str] = field(default_factory=dict)
    # While not set, a letter is taken and kept, and no answer comes.
    talking: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(  # noqa: N802 - named by aiosmtpd
        self, _server, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - named by aiosmtpd
        self, _server, session: Session, envelope: Envelope
    ) -> str:
        message = message_from_bytes(envelope.content, policy=default)
        for recipient in envelope.rcpt_tos:
            self.taken.append(
                Taken(
                    sender=envelope.mail_from,
                    recipient=recipient,
                    message=message,
                    encrypted=session.ssl is not None,
                    logged_in=bool(session.authenticated),
                )
            )
        self.heard.set()
        await self.talking.wait()
        return "250 taken"

    def authenticate(self, _server, _session, _envelope, _mechanism, data) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        self.logins.append(given)
        # Without `handled=False` the client would wait for ever after a wrong password.
        return AuthResult(success=given == LOGIN, handled=False)

    def to(self, recipient: str) -> list[Taken]:
        return [each for each in self.taken if each.recipient == recipient]

    @property
    def subjects(self) -> list[str]:
        return [str(each.message["Subject"]) for each in self.taken]


@asynccontextmanager
async def sink(
    *, starttls=None, tls=None, login: bool = False, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[Sink]:
    """Serve a mail server: with STARTTLS or TLS by an SSL context, with a login or without."""
    made = Sink()
    made.talking.set()

    def protocol() -> SMTP:
        with warnings.catch_warnings():
            # aiosmtpd warns of logins without TLS, which some tests want.
            warnings.simplefilter("ignore")
            return smtp()

    def smtp() -> SMTP:
        return SMTP(
            made,
            hostname="sink",
            tls_context=starttls,
            require_starttls=False,
            authenticator=made.authenticate if login else None,
            auth_required=login,
            auth_require_tls=False,
            enable_SMTPUTF8=True,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(protocol, host, port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.talking.set()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """Serve a port that takes connections and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in held:
            writer.close()
        server.close()
        await server.wait_closed()
