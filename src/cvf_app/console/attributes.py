"""`cvf attributes`: what the attributes of a source may hold."""

from pathlib import Path
from typing import Annotated

import typer

from cvf_app.console.failures import Failure, Misused
from cvf_app.console.here import server, source_named
from cvf_app.console.server import Json
from cvf_app.console.show import AsJson, as_json, details, err, follow, out, said, table
from cvf_app.errors import Invalid
from cvf_app.wire import decode

attributes = typer.Typer(
    help="Attributes of a source: their types, units and options.", no_args_is_help=True
)
SourceArgument = Annotated[str, typer.Argument(help="Id or name of the source.")]
FileArgument = Annotated[
    Path,
    typer.Argument(help="A JSON file: onMismatch, attributes, and removed names.", exists=True),
]
All = Annotated[
    bool, typer.Option("--all", help="Declare these and no others; else add to what is declared.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job.")]


@attributes.command("list")
def list_attributes(
    context: typer.Context,
    source: SourceArgument,
    schema: Annotated[
        bool, typer.Option("--schema", help="Show the JSON Schema of a subject's attributes.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List the declared and the inferred attributes of a source."""
    asked = server(context)
    path = f"/sources/{source_named(asked, source)['sourceId']}/attributes"
    if schema:
        as_json(asked.get(f"{path}/schema"))
        return
    known = asked.get(path)
    if json:
        as_json(known)
        return
    rows = [{**one, "holds": _holds(one["valueType"])} for one in known["attributes"]]
    columns = {
        "name": "Name",
        "displayName": "Display name",
        "holds": "Holds",
        "required": "Required",
        "declared": "Declared",
    }
    table(rows, columns, for_program=False, none="This source has no attributes yet.")
    out.print(f"A row that does not fit what is declared: {known['onMismatch']}", markup=False)


@attributes.command("set")
def set_attributes(
    context: typer.Context,
    source: SourceArgument,
    file: FileArgument,
    whole: All = False,
    no_wait: NoWait = False,
    json: AsJson = False,
) -> None:
    """Declare attributes; all stored values are converted, or nothing changes."""
    _change(context, source, file, "?check=false", whole, no_wait, json)


@attributes.command("check")
def check_attributes(
    context: typer.Context,
    source: SourceArgument,
    file: FileArgument,
    whole: All = False,
    json: AsJson = False,
) -> None:
    """Say what would come of declaring attributes; nothing changes."""
    _change(context, source, file, "?check=true", whole, False, json)


def _change(
    context: typer.Context,
    source: str,
    file: Path,
    words: str,
    whole: bool,
    no_wait: bool,
    for_program: bool,
) -> None:
    try:
        change = decode(file.read_bytes(), dict)
    except Invalid as fault:
        raise Misused(f"{file}: {fault.sentence}", path=fault.path) from fault
    asked = server(context)
    path = f"/sources/{source_named(asked, source)['sourceId']}/attributes{words}"
    started = asked.send("PUT" if whole else "PATCH", path, change)
    if no_wait:
        sentence = f"Started. Follow it: cvf jobs follow {started['jobId']}"
        said(started, sentence, for_program=for_program)
        return
    result = follow(asked, started["jobId"]).get("result") or {}
    if for_program:
        details(result, for_program=True)
    _told(result, for_program)


def _told(result: Json, for_program: bool) -> None:
    faults = result.get("faults") or []
    if result.get("outcome") == "refused":
        if not for_program:
            columns = {
                "attribute": "Attribute",
                "count": "Subjects",
                "examples": "Examples",
                "reasons": "Reasons",
            }
            table(faults, columns, for_program=False, none="")
        raise Failure(
            "Stored values do not fit; nothing was changed.",
            advice="Declare what they are, or correct the data and take it in again.",
        )
    if not for_program:
        changed = result.get("changed", 0)
        done = "Declared" if result.get("outcome") == "changed" else "It would fit"
        err.print(f"{done}; subjects with converted values: {changed}.", markup=False)


def _holds(of: Json) -> str:
    match of["type"]:
        case "list":
            return f"list of {_holds(of['items'])}"
        case "choice":
            return f"choice: {', '.join(of['options'])}"
        case "integer" | "decimal":
            bounds = [of.get("minimum"), of.get("maximum")]
            low, high = ("" if bound is None else f"{bound:g}" for bound in bounds)
            told = f"{low} to {high}" if low and high else f"from {low}" * bool(low)
            told = told or f"to {high}" * bool(high)
            return " ".join(word for word in (of["type"], told, of.get("unit") or "") if word)
        case kind:
            return str(kind)
