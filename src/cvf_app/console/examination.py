"""What `cvf doctor` looks at, one check after the other; each gives findings.

It looks where the operator would have to: the configuration, folders and their permissions, room
on the disk, the services, mail, the clock and the ports.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from cvf_app import config as configuration
from cvf_app.assembly import redis_url_of
from cvf_app.backends import seen
from cvf_app.backends.http import Http
from cvf_app.backends.mongo import Mongo
from cvf_app.backends.redis import Redis
from cvf_app.backends.seen import Seen
from cvf_app.config import Config
from cvf_app.console.doctor import Finding
from cvf_app.errors import CafeVariomeError, Conflict, Invalid, Unavailable
from cvf_app.local.apps import groups
from cvf_app.local.daemon import bind_of
from cvf_app.local.instance import Instance, find, full_place
from cvf_app.local.layout import LocalState, read
from cvf_app.local.ports import is_free, reachable, written
from cvf_app.migrations import numbers, state
from cvf_app.migrations.address import uri_of
from cvf_app.users.identity.configured import issuer

_LEAST_FREE, _LITTLE_FREE = 2**30, 10 * 2**30
_MOST_SKEW, _MUCH_SKEW = 30.0, 300.0
_MAIL_SECONDS = 5.0
DATA_FOLDER = "data folder"
_OLDEST = {"MongoDB protocol": (6,), "Redis": (6, 2), "Valkey": (7,), "Vault": (1, 15)}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
Ask = Callable[[], Awaitable[Seen]]


def examine(given: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at everything, in the order in which it would have to be mended."""
    try:
        instance = (
            Instance(folder=full_place(environ)[0], config=given) if given else find(None, environ)
        )
        path = instance.config or instance.layout.config
        config = configuration.load(path, environ)
    except Invalid as fault:
        where = f" ({fault.path})" if fault.path else ""
        advice = "mend it; every key stands in docs/configuration.md"
        yield Finding(
            check="configuration", state="fault", found=fault.sentence + where, advice=advice
        )
        return
    found = f"{path} is right: {config.mode.value} mode, digest {config.digest}"
    yield Finding(check="configuration", state="ok", found=found)
    yield from _permissions(path, config)
    yield from _folders(path, config)
    yield from _ports(instance, environ)
    yield from asyncio.run(_services(config, environ))


def _permissions(path: Path, config: Config) -> Iterator[Finding]:
    secret = [path]
    if config.secrets.provider == "file":
        secret.append(Path(config.secrets.path))
    for each in secret:
        try:
            mode = each.stat().st_mode
        except OSError:
            # Whoever needs it says so below.
            continue
        name = f"permissions of {each}"
        if mode & stat.S_IRWXO:
            mend = f"chmod {'700' if each.is_dir() else '600'} {each}"
            yield Finding(check=name, state="fault", found="everybody may read it", advice=mend)
        elif mode & _OTHERS:
            yield Finding(
                check=name,
                state="warning",
                found="its group may read it",
                advice="see that nobody but the operators is in the group",
            )
        else:
            yield Finding(check=name, state="ok", found="for its owner alone")


def _folders(path: Path, config: Config) -> Iterator[Finding]:
    folders = {DATA_FOLDER: Path(config.data.upload_path)}
    if config.secrets.provider == "file":
        folders["key store"] = Path(config.secrets.path)
    for name, named in folders.items():
        folder = named if named.is_absolute() else path.parent / named
        if not folder.is_dir():
            yield _missing(name, folder)
            continue
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            mend = f"run this as the account of Cafe Variome, or give it the folder: chown {folder}"
            yield Finding(
                check=name, state="fault", found=f"{folder} cannot be written to", advice=mend
            )
            continue
        yield _room(name, folder)


def _missing(name: str, folder: Path) -> Finding:
    there = next(each for each in folder.parents if each.exists())
    if name == DATA_FOLDER and there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        found = f"{folder} is not there yet, and can be made"
        return Finding(check=name, state="ok", found=found)
    mend = f"mkdir -m 700 -p {folder}, as the account that runs Cafe Variome"
    return Finding(check=name, state="fault", found=f"{folder} is missing", advice=mend)


def _room(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 2**30:.1f} GiB free"
    if free < _LEAST_FREE:
        mend = "uploads are refused soon; make room or put the folder on a larger disk"
        return Finding(check=name, state="fault", found=found, advice=mend)
    if free < _LITTLE_FREE:
        return Finding(
            check=name, state="warning", found=found, advice="make room before it is full"
        )
    return Finding(check=name, state="ok", found=found)


def _ports(instance: Instance, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        state = None if instance.config else read(instance.layout.state, LocalState)
        binds = [each.bind for each in groups(environ, bind_of(environ, state)) if each.bind]
    except Invalid as fault:
        mend = "mend the variable in the environment of the instance"
        yield Finding(check="address", state="fault", found=fault.sentence, advice=mend)
        return
    runs = instance.lock.is_held()
    for bind in binds:
        where = written(bind)
        if runs:
            yield Finding(check="address", state="ok", found=f"the instance runs, at {where}")
        elif is_free(bind[1], reachable(bind[0])):
            yield Finding(check="address", state="ok", found=f"{where} is free; nothing runs there")
        else:
            mend = "stop the other program, or choose another address with CV3_BIND"
            found = f"another program listens at {where}, or this machine has no such address"
            yield Finding(check="address", state="fault", found=found, advice=mend)


async def _services(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    http = Http.open(
        frozenset(filter(None, (issuer(config), config.keycloak.backend_url, config.vault.host)))
    )
    redis = Redis.open(redis_url_of(config))
    with ExitStack() as stack:
        try:
            mongo = Mongo.open(uri_of(config.mongo_db), config.mongo_db.database, 1)
            stack.callback(mongo.close)
            asked = [
                _service("database", mongo.seen, "see that MongoDB runs, and MongoDB in the file"),
                _schema(mongo),
                _service("broker", redis.seen, "see that Redis runs, and Redis in the file"),
                _identity(http, config),
                _secrets(http, config, environ),
                _mail(config),
                _clock(http, config),
            ]
            found = await asyncio.gather(*asked)
        finally:
            await redis.close()
            await http.close()
    return [each for several in found for each in several]


async def _service(check: str, ask: Ask, advice: str) -> list[Finding]:
    try:
        told = await ask()
    except CafeVariomeError as fault:
        return [Finding(check=check, state="fault", found=fault.sentence, advice=advice)]
    found = " ".join(filter(None, (told.name, told.version, told.mode)))
    if told.warning:
        return [Finding(check=check, state="warning", found=found, advice=told.warning)]
    oldest = _OLDEST.get(told.name, ())
    if told.version and _numbers(told.version) < oldest:
        least = ".".join(map(str, oldest))
        return [
            Finding(
                check=check, state="fault", found=found, advice=f"take version {least} or newer"
            )
        ]
    return [Finding(check=check, state="ok", found=found)]


async def _schema(mongo: Mongo) -> list[Finding]:
    try:
        number = await state.check(mongo, numbers.newest())
    except Conflict as fault:
        advice = "run that command, then start the instance"
        return [Finding(check="schema", state="fault", found=fault.sentence, advice=advice)]
    except Unavailable:
        return []  # which stands under the database
    return [Finding(check="schema", state="ok", found=f"the database has number {number}")]


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+", 1)[0].split("-", 1)[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


async def _identity(http: Http, config: Config) -> list[Finding]:
    is_keycloak = config.identity.provider == "keycloak"

    async def ask() -> Seen:
        return await seen.provider(
            http, issuer(config), config.keycloak.backend_url, is_keycloak=is_keycloak
        )

    keys = "Keycloak.URL, BackendURL and Realm" if is_keycloak else "Identity.Issuer"
    found = await _service("identity", ask, f"see that it runs, and {keys} in the file")
    public = issuer(config)
    if config.mode is configuration.Mode.FULL and public.startswith("http://"):
        advice = "give it a certificate; passwords and tokens travel in the clear"
        found.append(
            Finding(check="identity", state="warning", found=f"{public} has no TLS", advice=advice)
        )
    return found


async def _secrets(http: Http, config: Config, environ: Mapping[str, str]) -> list[Finding]:
    if config.secrets.provider == "file":
        return []

    async def ask() -> Seen:
        return await seen.vault(http, config.vault.host)

    found = await _service("secrets", ask, "see that Vault runs and is unsealed, and Vault.Host")
    missing = [name for name in ("VAULT_ROLE_ID", "VAULT_SECRET_ID") if not environ.get(name)]
    if missing:
        advice = "scripts/setup_vault.sh makes them; put them where the instance finds them"
        told = f"{' and '.join(missing)} not set in this environment"
        found.append(Finding(check="secrets", state="warning", found=told, advice=advice))
    return found


async def _mail(config: Config) -> list[Finding]:
    smtp = config.email.smtp
    if not smtp.host:
        advice = "name a mail server under Email.SMTP, or people and administrators hear nothing"
        found = "no mail server is configured"
        return [Finding(check="mail", state="warning", found=found, advice=advice)]
    where = f"{smtp.host}:{smtp.port}"
    try:
        async with asyncio.timeout(_MAIL_SECONDS):
            reader, writer = await asyncio.open_connection(
                smtp.host, int(smtp.port), ssl=True if smtp.security == "tls" else None
            )
            greeting = await reader.readline()
            writer.close()
    except (OSError, TimeoutError) as fault:
        advice = "see that the mail server runs and that a firewall lets us through"
        found = f"{where} does not answer ({type(fault).__name__})"
        return [Finding(check="mail", state="fault", found=found, advice=advice)]
    if not greeting.startswith(b"220"):
        advice = "see Email.SMTP.Port and Security; 'tls' is for a server that speaks TLS at once"
        found = f"{where} is no mail server, or is not ready"
        return [Finding(check="mail", state="fault", found=found, advice=advice)]
    return [Finding(check="mail", state="ok", found=f"{where} takes mail; try: cvf mail test")]


async def _clock(http: Http, config: Config) -> list[Finding]:
    """Compare the clocks: tokens and signed messages of others are judged by ours."""
    base = (config.keycloak.backend_url or issuer(config)).rstrip("/")
    try:
        url = f"{base}/.well-known/openid-configuration"
        answer = await http.send("GET", url, service=seen.IDENTITY)
    except CafeVariomeError:
        # That it does not answer is said above.
        return []
    named = {name.lower(): value for name, value in answer.headers.items()}
    try:
        there = parsedate_to_datetime(named.get("date", ""))
    except ValueError:
        return []
    skew = abs((datetime.now(UTC) - there).total_seconds())
    found = f"{skew:.0f} s from the identity provider's"
    advice = "let both machines follow a time server (timedatectl set-ntp true)"
    if skew > _MUCH_SKEW:
        return [Finding(check="clock", state="fault", found=found, advice=advice)]
    if skew > _MOST_SKEW:
        return [Finding(check="clock", state="warning", found=found, advice=advice)]
    return [Finding(check="clock", state="ok", found=found)]
