"""A change of declared attributes: all stored values are checked and converted, or nothing changes.

Promises: the values and the declarations switch together, in one step, by the same means as an
ingest (`run`). A change that one value does not survive leaves everything as it was; the result of
the job says which attributes, how many subjects, and why, with examples.
"""

from typing import Any, Literal

from cvf_app.errors import Conflict
from cvf_app.jobs.handler import Steps
from cvf_app.sources.attributes import changed
from cvf_app.sources.converting import Converted, Converting, convert_stored
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.model import Declarations, Retype, Share
from cvf_app.sources.run import Fresh, Run
from cvf_app.wire import plain

_GATHERED, _CONVERTED = 0.2, 0.5
_GONE = "The source was deleted or changed meanwhile; nothing of this change was kept."
Outcome = Literal["changed", "refused", "fits"]


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
