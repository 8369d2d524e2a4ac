"""Stored values converted to what changed declarations say: the part that runs in a child process.

Pure but for its files. Promises: every subject is looked at, and nothing of a file is dropped; of
what cannot be converted it tells which attributes, how many subjects, and why, with examples.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from cvf_app.files.place import room
from cvf_app.pipelines.attributes import AttributeSchema, AttributeType
from cvf_app.pipelines.values import Fault, convert
from cvf_app.sources.building import joined
from cvf_app.subject import EavValue, Subject
from cvf_app.wire import Wire, decode, encode

SHOWN_FAULTS = 100
SHOWN_EXAMPLES = 5
_LONGEST_EXAMPLE = 200
_EVERY = 1000
_ABSENT = "a value is required and there is none"


class Converting(Wire, frozen=True, kw_only=True):
    """Files of stored subjects, where they go, and which attributes become what.

    `required` are those that every subject must have now and did not have to before.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    spill: str
    was: tuple[AttributeSchema, ...]
    becomes: tuple[AttributeSchema, ...]
    required: tuple[str, ...]
    expected: int


class StoredFault(Wire, frozen=True, kw_only=True):
    """Stored values of an attribute that cannot stay: of how many subjects, with examples."""

    attribute: str
    count: int
    examples: tuple[str, ...]
    reasons: tuple[str, ...]


class Converted(Wire, frozen=True, kw_only=True):
    """What came of it: how many subjects changed in each file, and what cannot be converted."""

    subjects: tuple[int, ...]
    changed: tuple[int, ...]
    faults: tuple[StoredFault, ...]


def convert_stored(task: Converting, progress: Callable[[float], None]) -> Converted:
    """Convert files of subjects, one JSON document a line; runs in a child process.

    Raises:
        StorageFull: there is no room for the converted files.
    """
    conversion = _Conversion(task)
    subjects: list[int] = []
    changes: list[int] = []
    done = 0
    with room():
        for source, target in zip(task.inputs, task.outputs, strict=True):
            count = altered = 0
            with ExitStack() as stack:
                lines = stack.enter_context(Path(source).open("rb"))
                out = stack.enter_context(Path(target).open("wb"))
                for line in lines:
                    written = conversion.line(line)
                    altered += written is not line
                    out.write(written)
                    count += 1
                    if count % _EVERY == 0:
                        progress(min(1.0, (done + count) / max(1, task.expected)))
            done += count
            subjects.append(count)
            changes.append(altered)
        conversion.require(joined([Path(name) for name in task.inputs], Path(task.spill)))
    return Converted(subjects=tuple(subjects), changed=tuple(changes), faults=conversion.faults())


class _Faults:
    def __init__(self) -> None:
        self.count = 0
        self.examples: dict[str, None] = {}
        self.reasons: dict[str, None] = {}

    def add(self, reason: str, example: str | None) -> None:
        self.count += 1
        if example is not None and len(self.examples) < SHOWN_EXAMPLES:
            self.examples[example[:_LONGEST_EXAMPLE]] = None
        if len(self.reasons) < SHOWN_EXAMPLES:
            self.reasons[reason] = None


class _Conversion:
    """The conversion of one subject after another, and what was found to be in the way."""

    def __init__(self, task: Converting) -> None:
        self._was: dict[str, AttributeType] = {each.name: each.value_type for each in task.was}
        self._becomes = {each.name: each.value_type for each in task.becomes}
        self._required = task.required
        self._faults: dict[str, _Faults] = {}

    def line(self, line: bytes) -> bytes:
        """Return a subject with its values converted; the same line if nothing changed."""
        subject = decode(line, Subject)
        new: dict[str, EavValue] = {}
        for name, value in subject.eav.items():
            becomes = self._becomes.get(name)
            if becomes is None:
                continue
            found = convert(value, self._was.get(name), becomes)
            if isinstance(found, Fault):
                shown = encode(value).decode() if not isinstance(value, str) else value
                self._faults.setdefault(name, _Faults()).add(found.reason, shown)
            elif encode(found) != encode(value):
                new[name] = found
        if not new:
            return line
        return encode(msgspec.structs.replace(subject, eav={**subject.eav, **new})) + b"\n"

    def require(self, subjects: Iterator[Subject]) -> None:
        """Find out which subjects have not what is required of them now."""
        if not self._required:
            return
        for subject in subjects:
            for name in self._required:
                if name not in subject.eav:
                    self._faults.setdefault(name, _Faults()).add(_ABSENT, None)

    def faults(self) -> tuple[StoredFault, ...]:
        """Return what was in the way, the most frequent first."""
        found = sorted(self._faults.items(), key=lambda pair: -pair[1].count)
        return tuple(
            StoredFault(
                attribute=name,
                count=each.count,
                examples=tuple(each.examples),
                reasons=tuple(each.reasons),
            )
            for name, each in found[:SHOWN_FAULTS]
        )
