"""What a command prints: tables for people, JSON for programs, progress on the error stream."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from cvf_app.console.failures import Interrupted, JobFailed
from cvf_app.console.server import Json, Server

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
_OVER = ("complete", "error", "cancelled", "lost")
_LOOK_SECONDS = 0.4


def as_json(value: Json) -> None:
    """Print a value for a program."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def said(value: Json, sentence: str, *, for_program: bool) -> None:
    """Print the value for a program, or the sentence for a person."""
    if for_program:
        as_json(value)
    else:
        out.print(sentence, markup=False)


def table(
    rows: Sequence[dict[str, Json]], columns: dict[str, str], *, for_program: bool, none: str
) -> None:
    """Print rows: `columns` maps a field (`a.b` for a field within) to its heading."""
    if for_program:
        as_json(rows)
        return
    if not rows:
        out.print(none, markup=False)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        grid.add_column(heading, overflow="fold")
    for row in rows:
        grid.add_row(*(cell(field(row, name)) for name in columns))
    out.print(grid)


def details(value: dict[str, Json], *, for_program: bool) -> None:
    """Print one thing, a field a line."""
    if for_program:
        as_json(value)
        return
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, inner in value.items():
        grid.add_row(name, cell(inner))
    out.print(grid)


def field(row: Json, name: str) -> Json:
    """Return a field of a row, or a field within a field."""
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def cell(value: Json) -> str:
    """Write a value for a table; brackets of a value are no markup."""
    match value:
        case None | "":
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case list() if all(not isinstance(item, (dict, list)) for item in value):
            text = ", ".join(str(item) for item in value) or "-"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return text.replace("[", "\\[")


def moment(seconds: Json) -> str:
    """Write epoch seconds as local time."""
    if not isinstance(seconds, int | float):
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


@contextmanager
def bytes_bar(total: int, title: str) -> Iterator[Progress]:
    """Show how many bytes have gone, while at a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        bar.add_task(title, total=total)
        yield bar


def follow(server: Server, job_id: str) -> Json:
    """Wait for a job with a progress bar and return it when complete.

    Raises:
        JobFailed: it ended otherwise.
        Interrupted: the person stopped waiting; the job goes on.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("waiting", total=1.0)
            while True:
                job = server.get(f"/jobs/{job_id}")
                title = job.get("stage") or job["state"]
                bar.update(task, description=title, completed=job.get("progress", 0.0))
                if job["state"] in _OVER:
                    break
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted(
            f"You stopped waiting; the job {job_id} goes on.",
            advice=f"Follow it: cvf jobs follow {job_id}\nStop it: cvf jobs cancel {job_id}",
        ) from None
    if job["state"] != "complete":
        raise JobFailed(f"The job {job_id} {_ended(job)}", advice=f"See: cvf jobs show {job_id}")
    return job


def _ended(job: Json) -> str:
    faults = [step["error"] for step in job.get("status", []) if step.get("error")]
    if job["state"] == "cancelled":
        return "was cancelled."
    if faults:
        return f"failed: {faults[-1].get('message')}"
    return "was lost after too many attempts." if job["state"] == "lost" else "failed."
