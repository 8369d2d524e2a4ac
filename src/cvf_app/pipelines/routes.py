"""`/pipelines`: file and remap pipelines, for data administrators.

`/pipelines/attributes` needs the data files and stands with the sources.
"""

from typing import Any, cast

from quart import Blueprint, Response

from cvf_app.parts import use
from cvf_app.pipelines.model import Pipeline, PipelineId
from cvf_app.pipelines.service import Pipelines
from cvf_app.web.access import DATA, allow
from cvf_app.web.io import DONE, body, reply

bp = Blueprint("pipelines", __name__, url_prefix="/pipelines")


@bp.get("/")
@allow(*DATA)
async def list_pipelines() -> Response:
    """Show every pipeline."""
    return reply(await use(Pipelines).list_pipelines())


@bp.post("/")
@allow(*DATA)
async def create_pipeline() -> Response:
    """Keep a new pipeline."""
    pipeline_id, made = await use(Pipelines).create(await body(cast("type[Pipeline]", Pipeline)))
    return reply(made, location=f"/pipelines/{pipeline_id}")


@bp.get("/<pipeline_id>")
@allow(*DATA)
async def get_pipeline(pipeline_id: PipelineId) -> Response:
    """Show a pipeline."""
    return reply(await use(Pipelines).get(pipeline_id))


@bp.patch("/<pipeline_id>")
@allow(*DATA)
async def update_pipeline(pipeline_id: PipelineId) -> Response:
    """Merge members into a pipeline."""
    return reply(await use(Pipelines).update(pipeline_id, await body(dict[str, Any])))


@bp.delete("/<pipeline_id>")
@allow(*DATA)
async def delete_pipeline(pipeline_id: PipelineId) -> Response:
    """Delete a pipeline."""
    await use(Pipelines).delete(pipeline_id)
    return reply(DONE)
