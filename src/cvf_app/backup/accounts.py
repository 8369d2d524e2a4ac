"""The accounts of a local instance: its identity provider's database, and the first login."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

DATABASE = Path("identity", "canaille.sqlite")
_BESIDE = (Path("identity", "provider.json"), Path("secrets", "administrator.json"))


@contextmanager
def opened(folder: Path) -> Iterator[list[tuple[Path, BinaryIO]]]:
    """Open what there is of accounts; the database as it is at one moment (SQLite's backup)."""
    found: list[tuple[Path, BinaryIO]] = []
    with TemporaryDirectory() as aside:
        if (folder / DATABASE).is_file():
            copy = Path(aside) / "copy.sqlite"
            with (
                closing(sqlite3.connect(folder / DATABASE)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            found.append((DATABASE, copy.open("rb")))
        found += [(path, (folder / path).open("rb")) for path in _BESIDE if _there(folder / path)]
        try:
            yield found
        finally:
            for _, file in found:
                file.close()


def paths(folder: Path) -> list[Path]:
    """Return the files of accounts that are there."""
    return [folder / path for path in (DATABASE, *_BESIDE) if _there(folder / path)]


def _there(path: Path) -> bool:
    return path.is_file()
