"""`cvf pipelines`: how the rows of a file become subjects."""

from pathlib import Path
from typing import Annotated

import typer

from cvf_app.console.failures import Misused
from cvf_app.console.here import pipeline_named, server
from cvf_app.console.show import AsJson, as_json, said, table
from cvf_app.errors import Invalid
from cvf_app.wire import decode

pipelines = typer.Typer(help="File and remap pipelines.", no_args_is_help=True)
PipelineArgument = Annotated[str, typer.Argument(help="Id or name of the pipeline.")]


@pipelines.command("list")
def list_pipelines(context: typer.Context, json: AsJson = False) -> None:
    """List the pipelines."""
    columns = {"pipelineName": "Name", "pipelineType": "Type", "pipelineId": "Id"}
    rows = server(context).get("/pipelines/")
    none = "There are no pipelines. Make one: cvf pipelines create FILE"
    table(rows, columns, for_program=json, none=none)


@pipelines.command("create")
def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A JSON file with the pipeline.", exists=True)],
    json: AsJson = False,
) -> None:
    """Keep the pipeline that a file describes."""
    try:
        asked = decode(file.read_bytes(), dict)
    except Invalid as fault:
        raise Misused(f"{file}: {fault.sentence}", path=fault.path) from fault
    made = server(context).send("POST", "/pipelines/", asked)
    sentence = f"Made the pipeline {made['pipelineName']} ({made['pipelineId']})."
    said(made, sentence, for_program=json)


@pipelines.command("show")
def show(context: typer.Context, pipeline: PipelineArgument) -> None:
    """Show a pipeline as JSON, fit for `create`."""
    as_json(pipeline_named(server(context), pipeline))


@pipelines.command("delete")
def delete(context: typer.Context, pipeline: PipelineArgument, json: AsJson = False) -> None:
    """Delete a pipeline; what was read by it stays."""
    asked = server(context)
    found = pipeline_named(asked, pipeline)
    done = asked.send("DELETE", f"/pipelines/{found['pipelineId']}")
    said(done, f"Deleted {found['pipelineName']}.", for_program=json)
