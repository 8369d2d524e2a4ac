"""`cvf jobs`: work in the background."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

import typer

from cvf_app.console.here import server
from cvf_app.console.show import AsJson, details, follow, moment, out, said, table

jobs = typer.Typer(help="Work in the background.", no_args_is_help=True)
JobArgument = Annotated[str, typer.Argument(help="Id of the job.")]


def add_to(_: typer.Typer) -> None:
    """Put nothing at the root: all is below `jobs`."""


@jobs.command("list")
def list_jobs(context: typer.Context, json: AsJson = False) -> None:
    """List your jobs, latest first."""
    columns = {
        "jobId": "Id",
        "task": "Task",
        "state": "State",
        "stage": "Stage",
        "done": "Done",
        "attempts": "Attempts",
        "created": "Created",
    }
    rows = server(context).get("/jobs/")
    if not json:
        rows = [
            {
                **row,
                "done": f"{row.get('progress', 0):.0%}",
                "created": moment(row.get("createdAt")),
            }
            for row in rows
        ]
    table(rows, columns, for_program=json, none="There are no jobs.")


@jobs.command("show")
def show(context: typer.Context, job: JobArgument, json: AsJson = False) -> None:
    """Show a job and its history."""
    found = server(context).get(f"/jobs/{job}")
    if json:
        details(found, for_program=True)
        return
    details({name: value for name, value in found.items() if name != "status"}, for_program=False)
    columns = {
        "at": "At",
        "attempt": "Attempt",
        "state": "State",
        "stage": "Stage",
        "done": "Done",
        "error.message": "Error",
    }
    steps = [
        {**step, "at": moment(step["timestamp"]), "done": f"{step.get('progress', 0):.0%}"}
        for step in found.get("status", ())
    ]
    out.print()
    table(steps, columns, for_program=False, none="")
    if "report" in (found.get("result") or {}):
        out.print(f"What came of each file: cvf sources report {job}", markup=False)


@jobs.command("log")
def log(context: typer.Context, job: JobArgument, json: AsJson = False) -> None:
    """Show the end of what a job has printed."""
    found = server(context).get(f"/jobs/{job}/log")
    if json:
        details(found, for_program=True)
        return
    out.print(found["tail"], markup=False, highlight=False, end="")


@jobs.command("delete")
def delete(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(help="Id of the job.")] = None,
    ended: Annotated[
        str, typer.Option("--all", help="Instead of one: all that are ended, complete or failed.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Delete a job that has ended, or all of them."""
    if bool(job) == bool(ended):
        raise typer.BadParameter("Name either a job or, by --all, which jobs.")
    if job:
        told = server(context).send("DELETE", f"/jobs/{job}")
        said(told, f"Deleted {job}.", for_program=json)
        return
    told = server(context).send("DELETE", f"/jobs/?{urlencode({'filter': ended})}")
    said(told, f"Deleted {told['deleted']}.", for_program=json)


@jobs.command("resources")
def resources(context: typer.Context, json: AsJson = False) -> None:
    """Show what jobs may use and do use on each host."""
    found = server(context).get("/jobs/resources")
    if json:
        details(found, for_program=True)
        return
    columns = {
        "host": "Host",
        "enforcement": "Limits hold by",
        "cores": "Cores used",
        "memory": "MiB used",
        "running": "Running",
        "waiting": "Waiting",
    }
    rows = [
        {
            **host,
            "cores": f"{host['used']['cores']} of {host['limits']['cores']}",
            "memory": f"{host['used']['memoryMib']} of {host['limits']['memoryMib']}",
            "running": _counts(host["running"]),
            "waiting": _counts(host["waiting"]),
        }
        for host in found["hosts"]
    ]
    table(rows, columns, for_program=False, none="No worker lives.")


@jobs.command("cancel")
def cancel(context: typer.Context, job: JobArgument, json: AsJson = False) -> None:
    """Ask a job to stop; what it began is undone."""
    told = server(context).send("PUT", f"/jobs/{job}/cancel")
    said(told, f"Asked {job} to stop.", for_program=json)


@jobs.command("follow")
def follow_job(context: typer.Context, job: JobArgument, json: AsJson = False) -> None:
    """Wait for a job; Ctrl-C leaves it running."""
    ended = follow(server(context), job)
    if json:
        details(ended, for_program=True)
        return
    out.print("Done.")
    details(ended.get("result") or {}, for_program=False)


def _counts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {size}" for size, count in sorted(sizes.items())) or "0"
