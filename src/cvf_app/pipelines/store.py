"""Pipelines in MongoDB; each is kept as JSON, since patterns and names may hold anything."""

from typing import cast

from cvf_app.backends.mongo import Index, Mongo
from cvf_app.pipelines.model import Pipeline, PipelineId
from cvf_app.wire import decode, encode

COLLECTION = "pipelines"
# A union is a kind for reading, though its type is none for the checker.
ANY_PIPELINE = cast("type[Pipeline]", Pipeline)
INDICES = (Index((("name", 1),)),)


class PipelineStore:
    """The collection of pipelines."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep pipelines in this database."""
        self._pipelines = mongo.collection(COLLECTION)

    async def prepare(self) -> None:
        """Make the indices; when the database is new."""
        await self._pipelines.create_indices(INDICES)

    async def insert(self, pipeline_id: PipelineId, pipeline: Pipeline) -> None:
        """Keep a new pipeline.

        Raises:
            Conflict: its id is taken.
        """
        await self._pipelines.insert(_written(pipeline_id, pipeline))

    async def replace(self, pipeline_id: PipelineId, pipeline: Pipeline) -> bool:
        """Keep a pipeline in place of the old one; False when there is none."""
        return await self._pipelines.replace({"_id": pipeline_id}, _written(pipeline_id, pipeline))

    async def find(self, pipeline_id: PipelineId) -> Pipeline | None:
        """Return a pipeline, or nothing."""
        found = await self._pipelines.find_one({"_id": pipeline_id})
        return None if found is None else decode(found["pipeline"], ANY_PIPELINE)

    async def find_all(self) -> tuple[Pipeline, ...]:
        """Return every pipeline, by name."""
        found = await self._pipelines.find({}, sort=[("name", 1)])
        return tuple(decode(each["pipeline"], ANY_PIPELINE) for each in found)

    async def delete(self, pipeline_id: PipelineId) -> bool:
        """Remove a pipeline and say whether it was there."""
        return bool(await self._pipelines.delete_one({"_id": pipeline_id}))


def _written(pipeline_id: PipelineId, pipeline: Pipeline) -> dict[str, object]:
    return {"_id": pipeline_id, "name": pipeline.pipeline_name, "pipeline": encode(pipeline)}
