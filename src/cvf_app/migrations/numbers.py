"""The migrations there are, read from a folder: `mNNNN_words.py`, each with its `MIGRATION`."""

import importlib.util
import re
from pathlib import Path

from cvf_app.errors import Invalid
from cvf_app.migrations.model import Migration

FOLDER = Path(__file__).parent / "numbered"
_NAME = re.compile(r"m(\d{4})_\w+\.py")


def load(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """Return the migrations of a folder in the order of their numbers, from 1 without gaps.

    Raises:
        Invalid: a number is missing or there twice, or a file is no migration.
    """
    found = [_read(path) for path in sorted(folder.iterdir()) if _NAME.fullmatch(path.name)]
    if [each.number for each in found] != list(range(1, len(found) + 1)):
        raise Invalid(f"The migrations in {folder} are not numbered from 1 without gaps.")
    return tuple(found)


def newest() -> int:
    """Return the number that this program needs, without reading the migrations."""
    return max(int(name[1]) for path in FOLDER.iterdir() if (name := _NAME.fullmatch(path.name)))


def _read(path: Path) -> Migration:
    spec = importlib.util.spec_from_file_location(f"cvf_app_migration_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Invalid(f"{path} cannot be read as a migration.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    migration = module.MIGRATION
    named = _NAME.fullmatch(path.name)
    if not isinstance(migration, Migration) or named is None or migration.number != int(named[1]):
        raise Invalid(f"{path} has no MIGRATION of its number.")
    return migration
