"""`cvf backup` and `cvf restore`: a whole instance in one encrypted file, on this machine."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from getpass import getpass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer
from rich.filesize import decimal
from rich.markup import escape

from cvf_app.config import Config
from cvf_app.console.db import ConfigFile, config_path
from cvf_app.console.failures import Failure, Misused
from cvf_app.console.show import AsJson, err, said
from cvf_app.errors import Conflict, StorageFull
from cvf_app.ids import new_id
from cvf_app.local.guard import Lock
from cvf_app.local.layout import Layout
from cvf_app.local.serving import database, renew_identity

if TYPE_CHECKING:
    from cvf_app.backup.envelope import Identity, Passphrase, Recipient
    from cvf_app.backup.records import Info, Manifest

_FULL = (28, 122)  # ENOSPC, EDQUOT
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="Read the passphrase from the first line of a file; else it is asked for."),
]


def add_to(app: typer.Typer) -> None:
    """Put the commands of this file at the root."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there yet.")],
    passphrase_file: PassphraseFile = None,
    recipient: Annotated[
        Path | None,
        typer.Option(help="Instead of a passphrase: the public X25519 key (PEM) of who may open."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out what is not on the disk any more.")
    ] = False,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Write the whole instance into one encrypted file, while it goes on running.

    Inside are the database, the uploaded files, the search segments, the reports, the key store
    (one in a folder; Vault has its own snapshots) and the configuration without its secrets.
    """
    from cvf_app.backup.envelope import Recipient  # noqa: PLC0415 - see `status` of `cvf db`

    path = config_path(config)
    if file.exists():
        raise Misused(f"{file} is there already: name another file.")
    if recipient is not None and passphrase_file is not None:
        raise Misused("Name a recipient or a passphrase, not both.")
    keeper = (
        _passphrase(passphrase_file, twice=True)
        if recipient is None
        else Recipient(recipient.read_bytes())
    )
    with _whole(file) as out, database(Layout(path.parent), alone=False):
        info, manifest = asyncio.run(_take(path, out, keeper, allow_missing=allow_missing))
    size = file.stat().st_size
    documents = sum(total.count for total in manifest.collections.values())
    files = sum(total.count for total in manifest.areas.values())
    told = {
        "file": str(file),
        "backup": info.backup,
        "bytes": size,
        "documents": documents,
        "files": files,
        "keys": info.keys,
    }
    sentence = f"Written: {file}, {decimal(size)}: {documents} documents and {files} files."
    if info.keys == "vault":
        sentence += "\nThe keys are not inside: take a snapshot of Vault now, and keep both."
    said(told, sentence, for_program=json)


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    passphrase_file: PassphraseFile = None,
    identity: Annotated[
        Path | None, typer.Option(help="Instead of a passphrase: the private X25519 key (PEM).")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what the instance holds now.")
    ] = False,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Bring a backup back into an empty instance: the one of the configuration.

    The whole file is read and checked before anything is written, and everything is read back
    afterwards. A restore that was broken off is begun again by the same command.
    """
    from cvf_app.backup.envelope import Identity  # noqa: PLC0415 - see `status` of `cvf db`

    path = config_path(config)
    layout = Layout(path.parent)
    if Lock(layout.lock).is_held():
        raise Conflict("The instance runs. Stop it first: ./CafeVariome3.sh stop")
    if not file.is_file():
        raise Misused(f"There is no file {file}.")
    keeper = (
        _passphrase(passphrase_file, twice=False)
        if identity is None
        else Identity(identity.read_bytes())
    )
    with database(layout, alone=True):
        info = asyncio.run(_bring_back(path, file, keeper, replace=replace))
    renew_identity(layout)
    beside = path.with_name(f"{path.stem}.from-backup.json")
    beside.touch(mode=0o600)
    beside.write_text(info.config, encoding="utf-8")
    told = {"backup": info.backup, "schema": info.schema, "madeAt": info.made_at}
    made = datetime.fromtimestamp(info.made_at, UTC).isoformat(timespec="seconds")
    lines = [
        f"The backup is of {made}, by version {info.version}.",
        f"Restored, and read back: everything is there. The schema is {info.schema}.",
        f"The settings of then, without secrets, are in {beside}.",
    ]
    if info.keys == "vault":
        lines.append("The keys are not inside: bring Vault back from its own snapshot.")
    said(told, "\n".join(lines), for_program=json)


async def _take(
    path: Path, out: BinaryIO, keeper: "Passphrase | Recipient", *, allow_missing: bool
) -> "tuple[Info, Manifest]":
    from cvf_app.backup.records import Info, Writer  # noqa: PLC0415 - see `status` of `cvf db`
    from cvf_app.backup.settings import without_secrets  # noqa: PLC0415 - see above
    from cvf_app.backup.take import Taking  # noqa: PLC0415 - see above
    from cvf_app.config import load  # noqa: PLC0415 - see above
    from cvf_app.migrations import numbers  # noqa: PLC0415 - see above
    from cvf_app.migrations.address import open_configured  # noqa: PLC0415 - see above
    from cvf_app.migrations.lock import locked  # noqa: PLC0415 - see above
    from cvf_app.migrations.state import States, check  # noqa: PLC0415 - see above

    loaded = load(path)
    mongo = open_configured(loaded.mongo_db)
    try:
        number = await check(mongo, numbers.newest())
        keys = _keys(loaded)
        info = Info(
            backup=new_id(),
            made_at=int(time.time()),
            version=_version(),
            schema=number,
            database=loaded.mongo_db.database,
            keys="vault" if keys is None else "file",
            config=without_secrets(_text(path)),
        )
        async with locked(States(mongo).collection):
            data, writer = Path(loaded.data.upload_path), Writer(out, keeper, info)
            taking = Taking(mongo, data, writer, _say, allow_missing=allow_missing)
            return info, await taking.run(keys, _local(path))
    finally:
        mongo.close()


async def _bring_back(
    path: Path, file: Path, keeper: "Passphrase | Identity", *, replace: bool
) -> "Info":
    from cvf_app.backup.records import Reader  # noqa: PLC0415 - see `status` of `cvf db`
    from cvf_app.backup.restore import Target, restore  # noqa: PLC0415 - see above
    from cvf_app.config import load  # noqa: PLC0415 - see above
    from cvf_app.migrations import numbers  # noqa: PLC0415 - see above
    from cvf_app.migrations.address import open_configured  # noqa: PLC0415 - see above

    loaded = load(path)
    mongo = open_configured(loaded.mongo_db)
    try:
        target = Target(mongo, Path(loaded.data.upload_path), _keys(loaded), _local(path))
        with _reading(file) as source:

            def reader() -> Reader:
                source.seek(0)
                return Reader(source, keeper)

            return await restore(target, reader, numbers.load(), _say, replace=replace)
    finally:
        mongo.close()


def _keys(loaded: Config) -> Path | None:
    return Path(loaded.secrets.path) if loaded.secrets.provider == "file" else None


def _passphrase(file: Path | None, *, twice: bool) -> "Passphrase":
    from cvf_app.backup.envelope import Passphrase  # noqa: PLC0415 - see `status` of `cvf db`

    if file is not None:
        lines = file.read_text(encoding="utf-8").splitlines()
        return Passphrase(lines[0] if lines else "")
    if not sys.stdin.isatty():
        raise Misused("There is nobody to ask for the passphrase: --passphrase-file FILE")
    given = getpass("Passphrase of the backup: ")
    if twice and getpass("Once more: ") != given:
        raise Misused("The two passphrases differ.")
    return Passphrase(given)


@contextmanager
def _whole(file: Path) -> Iterator[BinaryIO]:
    """Give a file that takes its name only when it is whole and safe on the disk."""
    draft = file.with_name(f".{file.name}.{new_id()[:8]}.part")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except OSError as fault:
        if fault.errno in _FULL:
            raise StorageFull(f"There is no room left for {file}; nothing was kept.") from fault
        raise Failure(f"{file} cannot be written: {fault.strerror}.") from fault
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    with file.open("rb") as source:
        yield source


def _local(path: Path) -> Path | None:
    """Return the folder of the local instance that a configuration is of, if it is of one."""
    return path.parent if Layout(path.parent).state.exists() else None


def _text(path: Path) -> bytes:
    return path.read_bytes()


def _version() -> str:
    try:
        return version("cafe-variome")
    except PackageNotFoundError:
        return "3.0.0.dev1"


def _say(line: str) -> None:
    err.print(escape(line), highlight=False)
