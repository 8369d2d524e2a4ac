"""`cvf query` and `cvf history`: asking, and what was asked."""

import json as text
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from cvf_app.console.asking import Asked, build
from cvf_app.console.failures import Failure, Interrupted, Misused
from cvf_app.console.here import server, source_named
from cvf_app.console.server import Json, Server
from cvf_app.console.show import AsJson, as_json, moment, out, table
from cvf_app.groups.model import Depth
from cvf_app.subject import FamilyType, Mutation

_WAIT_SECONDS = 20
_LOOK_SECONDS = 0.5
_IDS_SHOWN = 10
_OVER = ("complete", "failed")


def add_to(app: typer.Typer) -> None:
    """Put the commands of this file at the root."""
    app.command()(query)
    app.command()(history)


def query(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="A query as JSON (- reads it from stdin).")
    ] = None,
    hpo: Annotated[list[str] | None, typer.Option(help="HPO term; may be repeated.")] = None,
    hpo_all: Annotated[bool, typer.Option("--hpo-all", help="All terms must be there.")] = False,
    at_least: Annotated[
        int | None, typer.Option(min=1, help="So many of the HPO terms must be there (else 1).")
    ] = None,
    ordo: Annotated[list[str] | None, typer.Option(help="ORDO term; any of them.")] = None,
    snomed: Annotated[list[str] | None, typer.Option(help="SNOMED CT code; any of them.")] = None,
    sex: Annotated[Literal["male", "female", "any"] | None, typer.Option()] = None,
    age: Annotated[str | None, typer.Option(help="Years: 0-17, 18-, or 42.")] = None,
    age_onset: Annotated[str | None, typer.Option(help="Age at first symptoms.")] = None,
    age_diagnosis: Annotated[str | None, typer.Option(help="Age at first diagnosis.")] = None,
    affected: Annotated[bool, typer.Option("--affected", help="Only affected people.")] = False,
    family: Annotated[list[FamilyType] | None, typer.Option(help="Family type.")] = None,
    gene: Annotated[list[str] | None, typer.Option(help="A variant in any of these genes.")] = None,
    mutation: Annotated[list[Mutation] | None, typer.Option(help="Of any of these kinds.")] = None,
    max_af: Annotated[float | None, typer.Option(min=0, max=1, help="Highest frequency.")] = None,
    allele: Annotated[list[str] | None, typer.Option(help="GENE=ALLELE[,ALLELE…]")] = None,
    eav: Annotated[
        list[str] | None,
        typer.Option(help="ATTRIBUTE=VALUE; also != > >= < <=, ~ and !~ for a regex."),
    ] = None,
    depth: Annotated[Depth | None, typer.Option(help="How much to be told, at most.")] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="A kind of data that a source must have (hpo, …).")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Ask only this source (id or name).")
    ] = None,
    show_query: Annotated[
        bool, typer.Option("--show-query", help="Print the query as JSON and do not send it.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Ask about records, by a JSON file or by options; options are joined by AND."""
    asked = Asked(
        hpo=hpo or [],
        hpo_all=hpo_all,
        at_least=at_least,
        ordo=ordo or [],
        snomed=snomed or [],
        sex=sex,
        age=age,
        age_onset=age_onset,
        age_diagnosis=age_diagnosis,
        affected=affected,
        family=[one.value for one in family or ()],
        gene=gene or [],
        mutation=[one.value for one in mutation or ()],
        max_af=max_af,
        allele=allele or [],
        eav=eav or [],
        depth=depth.value if depth else None,
        require=require or [],
    )
    body = build(asked)
    if file is not None:
        if body or source:
            raise Misused("A query comes from a file or from options, not from both.")
        body = _from_file(file)
    if source:
        at = server(context)
        body["sources"] = {"sources": [source_named(at, one)["sourceId"] for one in source]}
    if show_query:
        as_json(body)
        return
    entry = ask(server(context), body)
    if json:
        as_json(entry)
    else:
        _show(entry)
    if entry.get("status") == "failed":
        raise Failure("The query failed; what is shown may be incomplete.")


def history(
    context: typer.Context,
    query_id: Annotated[str | None, typer.Argument(help="One query; else all of yours.")] = None,
    json: AsJson = False,
) -> None:
    """List your queries, or show one with its answers."""
    asked = server(context)
    if query_id is not None:
        entry = asked.get(f"/record/history/{query_id}")
        if json:
            as_json(entry)
        else:
            _show(entry)
        return
    entries = asked.get("/record/history")
    rows = entries if json else [_line(entry) for entry in entries]
    columns = {"id": "Id", "at": "Asked", "status": "Status", "query": "Query"}
    table(rows, columns, for_program=json, none="You have not asked anything yet.")


def ask(asked: Server, body: Json) -> Json:
    """Send a query and wait until it is answered.

    Raises:
        Failure: the server refused, or the person stopped waiting.
    """
    headers = {"Prefer": f"wait={_WAIT_SECONDS}"}
    entry = asked.call("POST", "/record/", body=text.dumps(body).encode(), headers=headers)
    query_id = entry.get("queryID")
    try:
        while entry.get("status") not in _OVER:
            if query_id is None:
                query_id = _id_of(entry)
            entry = asked.get(f"/record/history/{query_id}")
            if entry.get("status") not in _OVER:
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted(
            "You stopped waiting; the query goes on.", advice=f"See: cvf history {query_id}"
        ) from None
    return entry


def _from_file(file: Path) -> dict[str, Json]:
    try:
        raw = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        body = text.loads(raw)
    except (OSError, ValueError) as fault:
        raise Misused(f"{file} holds no JSON that can be read: {fault}.") from fault
    if not isinstance(body, dict):
        raise Misused(f"{file} holds no query: a query is a JSON object.")
    return body


def _show(entry: Json) -> None:
    answers = [
        answer for response in entry.get("responses", ()) for answer in response["messageData"]
    ]
    rows = []
    for answer in answers:
        subjects = [
            one["subjectId"] for one in (answer.get("resultDetails") or {}).get("subjects", ())
        ]
        more = [f"… and {len(subjects) - _IDS_SHOWN} more"] if len(subjects) > _IDS_SHOWN else []
        rows.append(
            {
                "source": answer.get("sourceName"),
                "exist": bool(answer.get("exist")),
                "count": answer.get("recordCount"),
                "subjects": subjects[:_IDS_SHOWN] + more,
                "ignored": list(answer.get("ignoredFilters", ())),
            }
        )
    columns = {"source": "Source", "exist": "Found", "count": "Records", "subjects": "Subjects"}
    if any(row["ignored"] for row in rows):
        columns["ignored"] = "Filters that it cannot answer"
    none = "No source answered: you may know of none, or none has what was required."
    table(rows, columns, for_program=False, none=none)
    out.print(f"{entry.get('status')} (query {_id_of(entry)})", style="dim", markup=False)


def _line(entry: Json) -> dict[str, Json]:
    query = entry["query"]
    return {
        "id": _id_of(entry),
        "at": moment(query.get("timestamp")),
        "status": entry.get("status"),
        "query": query.get("messageData"),
    }


def _id_of(entry: Json) -> str:
    return str(entry["query"]["messageAttributes"]["messageId"])
