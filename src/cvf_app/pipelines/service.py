"""Pipelines: kept once they can be run, changed by merging, deleted at will.

A data file that was read by a file pipeline keeps a copy of its own.
"""

from typing import Any
from uuid import UUID

import msgspec

from cvf_app.errors import Conflict, Invalid, NotFound
from cvf_app.ids import new_id
from cvf_app.pipelines.check import check
from cvf_app.pipelines.model import FilePipeline, Pipeline, PipelineId
from cvf_app.pipelines.store import ANY_PIPELINE, PipelineStore
from cvf_app.wire import convert, plain

_NONE = "There is no such pipeline."


class Pipelines:
    """The file and remap pipelines of this instance."""

    def __init__(self, store: PipelineStore) -> None:
        """Keep them in the store."""
        self._store = store

    async def list_pipelines(self) -> tuple[Pipeline, ...]:
        """Return every pipeline, by name."""
        return await self._store.find_all()

    async def get(self, pipeline_id: PipelineId) -> Pipeline:
        """Return a pipeline.

        Raises:
            NotFound: there is none.
        """
        found = await self._store.find(pipeline_id)
        if found is None:
            raise NotFound(_NONE)
        return found

    async def create(self, pipeline: Pipeline) -> tuple[PipelineId, Pipeline]:
        """Keep a pipeline that can be run, and return it with its id.

        Raises:
            Invalid: it cannot be run, or its id is no UUID. Conflict: its id is taken.
        """
        pipeline_id = _id(pipeline.pipeline_id)
        kept = msgspec.structs.replace(_checked(pipeline), pipeline_id=pipeline_id)
        try:
            await self._store.insert(pipeline_id, kept)
        except Conflict as fault:
            raise Conflict(
                "There is a pipeline with this id already.", path="$.pipelineId"
            ) from fault
        return pipeline_id, kept

    async def update(self, pipeline_id: PipelineId, change: dict[str, Any]) -> Pipeline:
        """Merge members into a pipeline; one that is null is taken away; id and kind cannot change.

        Raises:
            NotFound: there is none. Invalid: the result cannot be run.
        """
        old = plain(await self.get(pipeline_id))
        for name in ("pipelineId", "pipelineType"):
            if name in change and change[name] != old[name]:
                raise Invalid(f"{name} cannot change.", path=f"$.{name}")
        merged = {name: value for name, value in {**old, **change}.items() if value is not None}
        new = _checked(convert(merged, ANY_PIPELINE))
        if not await self._store.replace(pipeline_id, new):
            raise NotFound(_NONE)
        return new

    async def delete(self, pipeline_id: PipelineId) -> None:
        """Delete a pipeline.

        Raises:
            NotFound: there is none.
        """
        if not await self._store.delete(pipeline_id):
            raise NotFound(_NONE)


def _checked(pipeline: Pipeline) -> Pipeline:
    # Twice the same call: the checker wants to see one kind at a time.
    if isinstance(pipeline, FilePipeline):
        return check(pipeline)
    return check(pipeline)


def _id(given: PipelineId | None) -> PipelineId:
    if given is None:
        return PipelineId(new_id())
    try:
        return PipelineId(str(UUID(given)))
    except ValueError as fault:
        raise Invalid("A pipeline's id is a UUID.", path="$.pipelineId") from fault
