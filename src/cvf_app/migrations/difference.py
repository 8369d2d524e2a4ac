"""How what is declared differs from a database, and the migration that makes the difference.

What is written is a proposal: a person reads it before it is applied. A collection that nobody
declares any more is only removed when it is empty.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from pprint import pformat

from cvf_app.backends.mongo import Index
from cvf_app.migrations.model import Declared, Shape

_WIDTH = 92


def difference(
    there: Mapping[str, Declared], wanted: Mapping[str, Declared], *, validates: bool = True
) -> tuple[tuple[str, str], ...]:
    """Return the steps from what is there to what is wanted, each with the step back, as code."""
    steps: list[tuple[str, str]] = []
    for name in sorted({*there, *wanted}):
        old, new = there.get(name), wanted.get(name)
        if new is not None and old is None:
            steps.append((_make(name, new.shape if validates else None), _drop(name)))
        before, after = old or Declared(), new or Declared()
        new_ones = sorted(after.indices - before.indices, key=_order)
        old_ones = sorted(before.indices - after.indices, key=_order)
        make, drop = partial(_index, "index", name), partial(_index, "drop_index", name)
        steps += [(make(index), drop(index)) for index in new_ones]
        steps += [(drop(index), make(index)) for index in old_ones]
        if old is not None and validates and _plain(before.shape) != _plain(after.shape):
            steps.append((_shape(name, after.shape), _shape(name, before.shape)))
        if old is not None and new is None:
            steps.append((_drop(name), _make(name, None)))
    return tuple(steps)


def written(number: int, sentence: str, steps: tuple[tuple[str, str], ...]) -> str:
    """Write a migration: the steps up, and those down in the reverse order."""
    up = "\n".join(f"    await steps.{forth}" for forth, _ in steps)
    down = "\n".join(f"    await steps.{back}" for _, back in reversed(steps))
    index = "from cvf_app.backends.mongo import Index\n" if "Index(" in up + down else ""
    return (
        f'"""{sentence}"""\n\n{index}'
        "from cvf_app.migrations.model import Migration, Steps\n\n\n"
        f"async def _up(steps: Steps) -> None:\n{up}\n\n\n"
        f"async def _down(steps: Steps) -> None:\n{down}\n\n\n"
        f"MIGRATION = Migration(number={number}, sentence={sentence!r}, up=_up, down=_down)\n"
    )


def write(folder: Path, number: int, sentence: str, steps: tuple[tuple[str, str], ...]) -> Path:
    """Write the file of a migration and return its path; its name comes from the sentence."""
    words = re.sub(r"[^a-z0-9]+", "_", sentence.lower()).strip("_")[:50].strip("_") or "change"
    path = folder / f"m{number:04d}_{words}.py"
    path.write_text(written(number, sentence, steps), encoding="utf-8")
    return path


def _order(index: Index) -> tuple[tuple[tuple[str, int], ...], bool]:
    return index.keys, index.unique


def _make(name: str, shape: Shape | None) -> str:
    return f'make("{name}")' if shape is None else _shaped("make", name, shape)


def _drop(name: str) -> str:
    return f'drop_empty("{name}")'


def _shape(name: str, shape: Shape | None) -> str:
    return _shaped("shape", name, shape)


def _shaped(step: str, name: str, shape: Shape | None) -> str:
    text = pformat(_plain(shape), width=_WIDTH - 12).replace("\n", "\n        ")
    return f'{step}(\n        "{name}",\n        {text},\n    )'


def _index(step: str, name: str, index: Index) -> str:
    unique = ", unique=True" if index.unique else ""
    return f'{step}("{name}", Index({index.keys!r}{unique}))'


def _plain(shape: Shape | None) -> dict[str, tuple[str, ...]] | None:
    return None if shape is None else {name: tuple(shape[name]) for name in sorted(shape)}
