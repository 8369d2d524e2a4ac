"""A change of declared attributes: all stored values are checked and converted, or nothing changes.

Promises: the values and the declarations switch together, in one step, by the same means as an
ingest (`run`). A change that one value does not survive leaves everything as it was; the result of
the job says which attributes, how many subjects, and why, with examples.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec

from cvf_app.errors import Conflict
from cvf_app.files.place import room
from cvf_app.jobs.handler import Steps
from cvf_app.pipelines.attributes import AttributeSchema, AttributeType
from cvf_app.pipelines.values import Fault, convert
from cvf_app.sources.attributes import changed
from cvf_app.sources.building import joined
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.model import Declarations, Retype, Share
from cvf_app.sources.run import Fresh, Run
from cvf_app.subject import EavValue, Subject
from cvf_app.wire import Wire, decode, encode, plain

SHOWN_FAULTS = 100
SHOWN_EXAMPLES = 5
_LONGEST_EXAMPLE = 200
_GATHERED, _CONVERTED = 0.2, 0.5
_EVERY = 1000
_ABSENT = "a value is required and there is none"
_GONE = "The source was deleted or changed meanwhile; nothing of this change was kept."
Outcome = Literal["changed", "refused", "fits"]


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


class Retyping:
    """The handler of the job that changes declared attributes."""

    def __init__(self, ingestion: Ingestion) -> None:
        """Change those of its sources, in runs as ingests have them."""
        self._sources = ingestion.sources
        self._store = ingestion.sources.store
        self._ingestion = ingestion

    async def retype(self, job: Retype, steps: Steps) -> dict[str, Any]:
        """Check all stored values, and convert them unless one does not fit."""
        run = await self._ingestion.begin(job.source_id, steps)
        old = await self._store.declarations(job.source_id)
        new = changed(old, job.change, whole=job.whole)
        _, contents = await self._sources.require(job.source_id)
        converted, fresh = await self._converted(run, contents.shares, old, new)
        outcome: Outcome = "refused" if converted.faults else "fits"
        if outcome == "fits" and not job.check_only:
            outcome = "changed"
            if fresh:
                await run.renew(fresh, new)
            elif not await self._store.declare(job.source_id, run.name, new):
                raise Conflict(_GONE)
        await run.end()
        return {
            "outcome": outcome,
            "subjects": sum(converted.subjects),
            "changed": sum(converted.changed),
            "faults": plain(converted.faults),
        }

    async def undo(self, job: Retype) -> None:
        """Remove what an unfinished change left; what answers is not touched."""
        await self._store.claim(job.source_id, None)
        await self._ingestion.tidy(job.source_id)

    async def _converted(
        self, run: Run, shares: tuple[Share, ...], old: Declarations, new: Declarations
    ) -> tuple[Converted, list[Fresh]]:
        before = {schema.name: schema for schema in old.attributes}
        becomes = tuple(
            schema
            for schema in new.attributes
            if schema.name not in before or before[schema.name].value_type != schema.value_type
        )
        required = tuple(
            schema.name
            for schema in new.attributes
            if schema.required and not (schema.name in before and before[schema.name].required)
        )
        if not shares or not (becomes or required):
            return Converted(subjects=(), changed=(), faults=()), []
        await run.steps.report("gathering", 0.0)
        inputs = [await run.gather(share) for share in shares]
        outputs = [path.with_suffix(".converted") for path in inputs]
        task = Converting(
            inputs=tuple(map(str, inputs)),
            outputs=tuple(map(str, outputs)),
            spill=str(run.work / "required.sqlite"),
            was=old.attributes,
            becomes=becomes,
            required=required,
            expected=sum(share.subjects for share in shares),
        )
        made = await run.compute("converting", (_GATHERED, _CONVERTED), convert_stored, task)
        fresh = [
            Fresh(share.data_file_id, path, share.subjects)
            for share, path, count in zip(shares, outputs, made.changed, strict=True)
            if count
        ]
        return made, fresh


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
