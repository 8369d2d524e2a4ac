"""`cvf sources`, `upload`, `ingest` and `remap`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cvf_app.console.failures import Misused, NoSuchThing
from cvf_app.console.here import pipeline_named, server, source_named
from cvf_app.console.server import Json, Server
from cvf_app.console.show import AsJson, details, err, follow, out, said, table
from cvf_app.console.upload import send

sources = typer.Typer(help="Sources and what they hold.", no_args_is_help=True)
SourceArgument = Annotated[str, typer.Argument(help="Id or name of the source.")]
FileOption = Annotated[
    list[str] | None, typer.Option("--file", help="Id or name of a data file; may be repeated.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job.")]
_TABLES = ("csv", "tsv", "xlsx", "json")


def add_to(app: typer.Typer) -> None:
    """Put the commands of this file at the root."""
    app.command()(upload)
    app.command()(ingest)
    app.command()(remap)


@sources.command("list")
def list_sources(context: typer.Context, json: AsJson = False) -> None:
    """List the sources that you may know of."""
    columns = {
        "sourceName": "Name",
        "displayName": "Display name",
        "recordIndex.recordCount": "Records",
        "online": "Online",
        "sourceId": "Id",
    }
    rows = server(context).get("/sources/")
    none = "You may know of no source. Make one: cvf sources create NAME"
    table(rows, columns, for_program=json, none=none)


@sources.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters and digits.")],
    display_name: Annotated[str, typer.Option(help="What people read; else the name.")] = "",
    description: Annotated[str, typer.Option()] = "",
    owner: Annotated[str, typer.Option()] = "",
    owner_email: Annotated[str, typer.Option()] = "",
    json: AsJson = False,
) -> None:
    """Make a source."""
    asked = {
        "sourceType": "internal",
        "sourceName": name,
        "displayName": display_name or name,
        "sourceDescription": description,
        "owner": owner,
        "ownerEmail": owner_email,
    }
    made = server(context).send("POST", "/sources/", asked)
    sentence = f"Made the source {name} ({made['sourceId']}).\nNext: cvf upload {name} FILE…"
    said(made, sentence, for_program=json)


@sources.command("show")
def show(context: typer.Context, source: SourceArgument, json: AsJson = False) -> None:
    """Show a source, its files and its indices."""
    asked = server(context)
    found = source_named(asked, source)
    whole = asked.get(f"/sources/{found['sourceId']}")
    files = asked.get(f"/sources/{found['sourceId']}/datafiles")
    if json:
        details({**whole, "dataFiles": files}, for_program=True)
        return
    details(
        {name: value for name, value in whole.items() if name != "recordIndex"}, for_program=False
    )
    index = whole.get("recordIndex") or {}
    kinds = [kind for kind, there in (index.get("capability") or {}).items() if there is True]
    attributes = list((index.get("eavIndex") or {}).get("mappings") or {})
    told = {"records": index.get("recordCount"), "kinds": kinds, "attributes": attributes}
    details(told, for_program=False)
    out.print()
    _files_table(files)


@sources.command("report")
def report(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Id of an ingest or a remap.")],
    refusals: Annotated[
        Path | None, typer.Option(help="Write every refused row to this file, as CSV.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show what came of the files of a job."""
    asked = server(context)
    source = asked.get(f"/jobs/{job}").get("args", {}).get("sourceId")
    if source is None:
        raise NoSuchThing(f"The job {job} is none of a source.", advice="See: cvf jobs list")
    found = asked.get(f"/sources/{source}/reports/{job}")
    if refusals is not None:
        with refusals.open("wb") as sink:
            asked.save(f"/sources/{source}/reports/{job}/refusals", sink, {"Accept": "*/*"})
    columns = {
        "filename": "File",
        "rows": "Rows",
        "subjects": "Subjects",
        "refused": "Refused",
        "unmatched": "Without a match",
    }
    table(found["files"] if not json else [found], columns, for_program=json, none="No files.")
    if found["refused"] and refusals is None and not json:
        out.print(f"All refused rows: cvf sources report {job} --refusals FILE", markup=False)


@sources.command("delete")
def delete(
    context: typer.Context,
    source: SourceArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Delete a source with its files and subjects."""
    asked = server(context)
    found = source_named(asked, source)
    if not yes:
        typer.confirm(f"Delete {found['sourceName']} with all its files and subjects?", abort=True)
    done = asked.send("DELETE", f"/sources/{found['sourceId']}")
    said(done, f"Deleted {found['sourceName']}.", for_program=json)


def upload(
    context: typer.Context,
    source: SourceArgument,
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders (each becomes one zip).", exists=True)
    ],
    chunk_size: Annotated[
        int | None, typer.Option(min=1024, help="Bytes of one chunk; else as the server likes.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Upload files into a source; an upload that was cut off goes on where it was."""
    asked = server(context)
    found = source_named(asked, source)
    for path in paths:
        if not send(asked, found["sourceId"], path, chunk_size):
            err.print(f"{path} is there already; it was not sent again.", markup=False)
    files = asked.get(f"/sources/{found['sourceId']}/datafiles")
    if json:
        table(files, {}, for_program=True, none="")
        return
    _files_table(files)
    out.print(f"Next: cvf ingest {found['sourceName']}", markup=False)


def ingest(
    context: typer.Context,
    source: SourceArgument,
    pipeline: Annotated[
        str | None, typer.Option(help="File pipeline (id or name); none for phenopackets and VCF.")
    ] = None,
    remap_by: Annotated[
        str | None,
        typer.Option("--remap", help="Make subjects of tables by this one (id or name)."),
    ] = None,
    file: FileOption = None,
    no_wait: NoWait = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what the head of each file would give.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Take data files in: those named, else all that are not yet processed."""
    asked = server(context)
    found = source_named(asked, source)
    files = _chosen(asked, found, file, lambda one: not one.get("isProcessed"))
    if dry_run:
        _try(asked, found, files, (pipeline, remap_by), json)
        return
    body: dict[str, Json] = {"dataFileIDs": files}
    if pipeline is not None:
        body["pipelineID"] = pipeline_named(asked, pipeline)["pipelineId"]
    if remap_by is not None:
        body["remapPipelineID"] = pipeline_named(asked, remap_by)["pipelineId"]
    _run(asked, f"/sources/{found['sourceId']}/ingest", body, no_wait, json)


def _try(
    asked: Server,
    source: Json,
    files: list[str],
    pipelines: tuple[str | None, str | None],
    for_program: bool,
) -> None:
    """Show what the head of each file would give."""
    named = {
        member: pipeline_named(asked, name)["pipelineId"]
        for member, name in zip(("pipelineID", "remapPipelineID"), pipelines, strict=True)
        if name is not None
    }
    for file in files:
        body = {"dataFileID": file, **named}
        found = asked.send("POST", f"/sources/{source['sourceId']}/dry-run", body)
        if for_program:
            details(found, for_program=True)
            continue
        for subject in found["subjects"]:
            out.print_json(data=subject)
        details(found["report"], for_program=False)


def remap(
    context: typer.Context,
    source: SourceArgument,
    pipeline: Annotated[str, typer.Option(help="Remap pipeline (id or name).")],
    file: FileOption = None,
    no_wait: NoWait = False,
    json: AsJson = False,
) -> None:
    """Turn read tables into subjects: the files named, else all tables of the source."""
    asked = server(context)
    found = source_named(asked, source)
    files = _chosen(asked, found, file, lambda one: one.get("fileFormat") in _TABLES)
    chosen = pipeline_named(asked, pipeline)["pipelineId"]
    body = {"dataFileIDs": files, "pipelineID": chosen}
    _run(asked, f"/sources/{found['sourceId']}/remap", body, no_wait, json)


def _run(asked: Server, path: str, body: Json, no_wait: bool, for_program: bool) -> None:
    """Start a job and follow it to its end, unless nobody waits for it."""
    started = asked.send("POST", path, body)
    job_id = started["jobId"]
    if no_wait:
        said(started, f"Started. Follow it: cvf jobs follow {job_id}", for_program=for_program)
        return
    job = follow(asked, job_id)
    if for_program:
        details(job, for_program=True)
    else:
        out.print("Done.")
        details(job.get("result") or {}, for_program=False)


def _chosen(
    asked: Server, source: Json, names: list[str] | None, default: Callable[[Json], bool]
) -> list[str]:
    files = asked.get(f"/sources/{source['sourceId']}/datafiles")
    if not names:
        found = [str(one["dataFileId"]) for one in files if default(one)]
        if not found:
            raise Misused(
                f"{source['sourceName']} has no file to take: all are processed, or none is there.",
                advice=f"cvf upload {source['sourceName']} FILE…, or name one with --file",
            )
        return found
    chosen = []
    for name in names:
        known = [one for one in files if name in (one["dataFileId"], one["filename"])]
        if not known:
            raise NoSuchThing(
                f"{source['sourceName']} has no data file {name}.",
                advice=f"See: cvf sources show {source['sourceName']}",
            )
        chosen += [str(one["dataFileId"]) for one in known]
    return chosen


def _files_table(files: list[Json]) -> None:
    columns = {
        "filename": "File",
        "fileFormat": "Format",
        "size": "Bytes",
        "isProcessed": "Processed",
        "dataFileId": "Id",
    }
    table(files, columns, for_program=False, none="No files. Send some: cvf upload SOURCE FILE…")
