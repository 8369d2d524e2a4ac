"""Bringing a backup back into an empty instance, and making sure that it is all there.

First the whole file is read: a wrong key, a changed byte or a missing end stops here, before
anything is written. Then the database says that a restore is under way, so that no server starts on
it; what is there is removed (nothing, unless a restore was broken off, or all may be replaced), and
everything is written, read back and counted. The number of the schema is set last.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cvf_app.backends.documents import packed, unpacked
from cvf_app.backends.mongo import Document, Mongo
from cvf_app.backup import accounts
from cvf_app.backup.records import (
    COLLECTION,
    DOCUMENT,
    FILE,
    FILE_END,
    PIECE,
    Ended,
    Info,
    Manifest,
    Placed,
    Reader,
    Tally,
    Total,
)
from cvf_app.backup.take import ACCOUNTS, DATA, KEYS
from cvf_app.errors import Conflict, Invalid
from cvf_app.files.place import room
from cvf_app.loops import in_thread
from cvf_app.migrations.catalogue import Catalogue
from cvf_app.migrations.lock import locked
from cvf_app.migrations.model import Migration
from cvf_app.migrations.state import COLLECTION as SCHEMA
from cvf_app.migrations.state import State, States, Under
from cvf_app.migrations.steps import Doing
from cvf_app.wire import decode

_OURS = ("files", "segments", "reports", "uploads", "work", "aside", "bin", "spool")
_PAGE_BYTES = 4 * 2**20
_PAGE = 500
# Batches of subjects are large, and a server may send as many documents at once as it is asked for.
_READ_BACK = 10
_READ_AT_ONCE = 2**20
_TOLD_SECONDS = 2.0
Say = Callable[[str], None]
OpenReader = Callable[[], Reader]


@dataclass(frozen=True)
class Target:
    """Where a backup is brought back to.

    Without `keys` the key store is not ours to fill; `local` is the folder of a local instance,
    which has the accounts. What has no place in the target is left out.
    """

    mongo: Mongo
    data: Path
    keys: Path | None
    local: Path | None = None

    @property
    def roots(self) -> dict[str, Path]:
        """The areas that the target has, and their folders."""
        roots = {DATA: self.data, KEYS: self.keys, ACCOUNTS: self.local}
        return {area: root for area, root in roots.items() if root is not None}


def verify(reader: Reader, say: Say) -> tuple[Info, Manifest]:
    """Read a backup to its end and return what it holds.

    Raises:
        Invalid: it was changed, is not whole, or does not agree with itself.
    """
    say("reading the whole backup first")
    for _ in reader:
        pass
    if reader.manifest is None:
        raise Invalid("This backup is not whole. Nothing was written.")
    return reader.info, reader.manifest


async def restore(
    target: Target,
    opened: OpenReader,
    migrations: Sequence[Migration],
    say: Say,
    *,
    replace: bool = False,
) -> Info:
    """Bring a backup back and return what it was; a restore that was broken off is begun again.

    Raises:
        Invalid: the backup is not to be opened, or not whole.
        Conflict: the target is not empty, or the backup is newer than this program.
    """
    info, manifest = verify(opened(), say)
    if info.schema > len(migrations):
        raise Conflict(
            f"This backup has the schema {info.schema}, and this program knows {len(migrations)}: "
            "restore it with the newer program."
        )
    if (info.keys == "file") != (target.keys is not None):
        raise Conflict(
            "The backup is of an instance with another kind of key store: its key store was "
            f"'{info.keys}' (Secrets.Provider)."
        )
    states = States(target.mongo)
    _check_target(target, await states.read(), info, replace=replace)
    async with locked(states.collection):
        under = Under(direction="restore", number=info.schema, backup=info.backup)
        validates = await Catalogue(target.mongo).validates()
        await states.begin(0, under, validates=validates)
        await _clear(target)
        await _structure(target.mongo, migrations[: info.schema], say, validates=False)
        await _Restoring(target, say).run(opened(), info)
        # Again, with the shapes: documents of before that have another one are brought back too.
        await _structure(target.mongo, migrations[: info.schema], _unsaid, validates=validates)
        say("reading back")
        await _compare(target, manifest)
        await states.arrive(info.schema, under)
    return info


def _check_target(target: Target, state: State, info: Info, *, replace: bool) -> None:
    again = (
        state.doing is not None
        and state.doing.direction == "restore"
        and state.doing.backup == info.backup
    )
    if again or replace:
        return
    if state.exists:
        raise Conflict(
            "The database is not empty. Restore into a new one, or let this one be replaced, with "
            "everything in it: --replace"
        )
    filled = [name for name in _OURS if any(_contents(target.data / name))]
    if filled or (target.keys is not None and any(_contents(target.keys))):
        where = target.data if filled else target.keys
        raise Conflict(
            f"The folder {where} is not empty. Restore into a new one, or let this one be "
            "replaced: --replace"
        )


async def _clear(target: Target) -> None:
    catalogue = Catalogue(target.mongo)
    for name in sorted(await catalogue.names()):
        if name != SCHEMA:
            await catalogue.drop(name)
    await in_thread(_clear_folders, target)


def _clear_folders(target: Target) -> None:
    folders = [target.data / name for name in _OURS]
    for folder in (*folders, *([target.keys] if target.keys else [])):
        if folder.is_dir():
            shutil.rmtree(folder)
    for path in accounts.paths(target.local) if target.local else ():
        path.unlink()


async def _structure(
    mongo: Mongo, migrations: Sequence[Migration], say: Say, *, validates: bool
) -> None:
    for migration in migrations:
        say(f"schema {migration.number:04d}: {migration.sentence}")
        await migration.up(Doing(mongo, migration.number, _unsaid, validates=validates))


class _Restoring:
    """The second reading, which writes."""

    def __init__(self, target: Target, say: Say) -> None:
        self._target = target
        self._say = say
        self._page: list[Document] = []
        self._bytes = 0
        self._name = ""
        self._file: BinaryIO | None = None
        self._count, self._told = 0, time.monotonic()

    async def run(self, reader: Reader, info: Info) -> None:
        """Write everything.

        Raises:
            Conflict: this is another backup than the one that was read before.
        """
        if reader.info != info:
            raise Conflict("The backup was replaced while it was being read.")
        for kind, body in reader:
            if kind == COLLECTION:
                await self._flush()
                self._name = body.decode()
            elif kind == DOCUMENT:
                self._page.append(unpacked(body))
                self._bytes += len(body)
                if self._bytes > _PAGE_BYTES or len(self._page) >= _PAGE:
                    await self._flush()
            else:
                # In a thread: the lock has to be renewed meanwhile.
                await in_thread(self._on_file, kind, body)
        await self._flush()

    async def _flush(self) -> None:
        if self._page:
            await self._target.mongo.collection(self._name).insert_many(self._page)
            self._count += len(self._page)
            self._page, self._bytes = [], 0
        if time.monotonic() - self._told > _TOLD_SECONDS:
            self._say(f"  {self._count} documents so far")
            self._told = time.monotonic()

    def _on_file(self, kind: bytes, body: bytes) -> None:
        if kind == FILE:
            path = path_of(self._target, decode(body, Placed))
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._file = os.fdopen(handle, "wb")
        elif kind == PIECE and self._file is not None:
            with room():
                self._file.write(body)
        elif kind == FILE_END and self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def path_of(target: Target, placed: Placed) -> Path | None:
    """Return where a file of a backup belongs; nothing when the target has no such area.

    Raises:
        Invalid: that is outside the folders of the instance.
    """
    root, inside = target.roots.get(placed.area), Path(placed.path)
    if inside.is_absolute() or ".." in inside.parts:
        raise Invalid("The backup names a file outside of the instance's folders.")
    return None if root is None else root / inside


async def _compare(target: Target, manifest: Manifest) -> None:
    """Read everything back.

    Raises:
        Conflict: something is not as it was in the backup.
    """
    tally = Tally()
    for name in manifest.collections:
        tally.collection(name)
        async for document in target.mongo.collection(name).stream({}, batch=_READ_BACK):
            tally.document(name, packed(document))
    for area, root in target.roots.items():
        for path in _files(area, root):
            placed = Placed(area=area, path=path.relative_to(root).as_posix())
            tally.file(placed, await in_thread(_digest, path))
    there, areas = tally.manifest, {name: Total() for name in target.roots}
    asked = {**areas, **{name: manifest.areas[name] for name in areas if name in manifest.areas}}
    wrong = [name for name, total in asked.items() if {**areas, **there.areas}[name] != total]
    wrong += [
        name for name, total in manifest.collections.items() if there.collections[name] != total
    ]
    if wrong:
        raise Conflict(
            f"What was brought back is not what the backup holds ({', '.join(wrong)}). "
            "Run the same again."
        )


def _files(area: str, root: Path) -> list[Path]:
    if area == ACCOUNTS:
        return accounts.paths(root)
    folders = [root / name for name in _OURS] if area == DATA else [root]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def _digest(path: Path) -> Ended:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_READ_AT_ONCE):
            digest.update(piece)
            size += len(piece)
    return Ended(size=size, sha256=digest.hexdigest())


def _contents(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _unsaid(_: str) -> None:
    """Hear a step that is no news."""
