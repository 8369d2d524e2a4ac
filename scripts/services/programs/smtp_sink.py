"""A mail server that keeps what it gets: STARTTLS with login, TLS from the start, and plain.

Started by `scripts/services/smtp.py` with an interpreter that has aiosmtpd and cryptography.
Every mail becomes two files in `mails/`: the message as it came (`.eml`) and what the client
said beside it (`.json`: sender, recipients, login, TLS, time), the second when the first is whole.
What the file `answer` holds, if it is there, is said to a message instead of taking it: a line
such as `451 4.3.0 later`, or `hang`, which says nothing for ten minutes.

Promises: without TLS no login is taken on the first port, without a login no mail; a mail is
acknowledged when it is on the disk.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import hmac
import ipaddress
import json
import os
import signal
import ssl
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
_HANG_SECONDS = 600
_VALID = dt.timedelta(days=365)


class Keeper:
    """Takes mails and keeps them."""

    def __init__(self, folder: Path) -> None:
        """Keep them in this folder, numbered on from what is there."""
        self._mails = folder / "mails"
        self._mails.mkdir(mode=0o700, exist_ok=True)
        self._answer = folder / "answer"
        self._count = len(list(self._mails.glob("*.json")))

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep one mail, or answer as we were told to."""
        if self._answer.exists():
            answer = self._answer.read_text().strip()
            if answer == "hang":
                await asyncio.sleep(_HANG_SECONDS)
            return answer
        self._count += 1
        name = self._mails / f"{self._count:06d}"
        login = session.auth_data
        told = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "login": login.login.decode() if isinstance(login, LoginPassword) else None,
            "tls": _over_tls(server),
            "host": session.host_name,
            "received": dt.datetime.now(dt.UTC).isoformat(),
            "message": name.with_suffix(".eml").name,
        }
        content = envelope.content or b""
        _write(
            name.with_suffix(".eml"), content if isinstance(content, bytes) else content.encode()
        )
        _write(name.with_suffix(".json"), json.dumps(told, indent=1).encode())
        return "250 2.0.0 kept"


class Door:
    """Who may send: one user name and one password."""

    def __init__(self, username: str, password: str) -> None:
        """Let in who knows these two."""
        self._known = (username.encode(), password.encode())

    def __call__(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        """Judge a login."""
        del server, session, envelope, mechanism
        if isinstance(data, LoginPassword):
            good = [
                hmac.compare_digest(given, known)
                for given, known in zip((data.login, data.password), self._known, strict=True)
            ]
            if all(good):
                return AuthResult(success=True, auth_data=data)
        # `handled` would mean that we had answered ourselves, and the client would wait for ever.
        return AuthResult(success=False, handled=False)


def _over_tls(server: SMTP) -> bool:
    return server.transport is not None and bool(server.transport.get_extra_info("sslcontext"))


def certificates(folder: Path) -> ssl.SSLContext:
    """Return the server's context; its authority and certificate are made once."""
    chain, key = folder / "server.pem", folder / "server.key"
    if not chain.exists():
        _make_certificates(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    return context


def _make_certificates(folder: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    server = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
    for_both = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID)
    )
    ca = (
        for_both.subject_name(issuer)
        .public_key(authority.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_subject_key(authority), critical=False)
        .sign(authority, hashes.SHA256())
    )
    own = (
        for_both.subject_name(subject)
        .public_key(server.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(_subject_key(server), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(folder / "ca.pem", ca.public_bytes(pem))
    _write(folder / "server.key", server.private_bytes(pem, *plain))
    _write(folder / "server.pem", own.public_bytes(pem))


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_key(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)


async def serve(folder: Path, ports: tuple[int, int, int]) -> None:
    """Serve on three ports until TERM: STARTTLS, TLS from the start, plain without a login."""
    known = json.loads((folder / "credentials.json").read_text())
    keeper, door = Keeper(folder), Door(known["username"], known["password"])
    context = certificates(folder)
    loop = asyncio.get_running_loop()

    def starttls() -> SMTP:
        return SMTP(
            keeper,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=door,
        )

    def tls() -> SMTP:
        return SMTP(keeper, auth_required=True, auth_require_tls=False, authenticator=door)

    servers = [
        await loop.create_server(starttls, LOOPBACK, ports[0]),
        await loop.create_server(tls, LOOPBACK, ports[1], ssl=context),
        await loop.create_server(lambda: SMTP(keeper), LOOPBACK, ports[2]),
    ]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for server in servers:
        server.close()


def main() -> None:
    """Read the command line and serve."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--folder", type=Path, required=True)
    reader.add_argument("--ports", type=int, nargs=3, required=True)
    told = reader.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(told.folder, tuple(told.ports)))


if __name__ == "__main__":
    main()
