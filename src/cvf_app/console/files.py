"""`cvf files`: files that the instance keeps for you."""

import hashlib
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from cvf_app.console.failures import Failure, Misused
from cvf_app.console.here import server
from cvf_app.console.server import Json, Server
from cvf_app.console.show import AsJson, moment, out, said, table

files = typer.Typer(help="Files that the instance keeps for you.", no_args_is_help=True)
FileArguments = Annotated[list[str], typer.Argument(help="Ids of files.")]


@files.command("list")
def list_files(context: typer.Context, json: AsJson = False) -> None:
    """List your files, latest first; all files if you manage data."""
    columns = {
        "name": "Name",
        "size": "Bytes",
        "type": "Type",
        "state": "State",
        "sent": "Sent",
        "until": "Kept until",
        "fileId": "Id",
    }
    rows = server(context).get("/files/", limit="200")
    if not json:
        rows = [
            {
                **row,
                "state": _state(row),
                "sent": moment(row["uploadedAt"]),
                "until": moment(row["expiresAt"]),
            }
            for row in rows
        ]
    table(rows, columns, for_program=json, none="There are no files.")


@files.command("get")
def get(
    context: typer.Context,
    ids: FileArguments,
    to: Annotated[
        Path | None, typer.Option(help="Where to; else the file's name, or files.zip for several.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Fetch a file, or several as one zip; a fetch that was cut off goes on where it was."""
    asked = server(context)
    if len(ids) > 1:
        target = _target(to, "files.zip")
        with target.open("wb") as sink:
            asked.save(f"/files/archive?{urlencode([('id', one) for one in ids])}", sink)
    else:
        kept = asked.get(f"/files/{quote(ids[0], safe='')}")
        target = _target(to, Path(str(kept["name"])).name)
        _fetch(asked, kept, target)
    said({"path": str(target)}, f"Wrote {target}.", for_program=json)


@files.command("delete")
def delete(context: typer.Context, ids: FileArguments, json: AsJson = False) -> None:
    """Delete files that no source and no job needs."""
    asked = server(context)
    for one in ids:
        asked.send("DELETE", f"/files/{quote(one, safe='')}")
        if not json:
            out.print(f"Deleted {one}.", markup=False)
    if json:
        said({"deleted": ids}, "", for_program=True)


def _fetch(asked: Server, kept: Json, target: Path) -> None:
    """Write a file's bytes beside the target, going on where an earlier try ended."""
    partial = target.with_name(f"{target.name}.{kept['sha256'][:8]}.part")
    there = partial.stat().st_size if partial.exists() else 0
    address = f"/files/{quote(str(kept['fileId']), safe='')}/content"
    if there < int(kept["size"]) or not partial.exists():
        headers = {"Range": f"bytes={there}-"} if there else {}
        with partial.open("ab") as sink:
            asked.save(address, sink, headers)
    if partial.stat().st_size < int(kept["size"]):
        raise Failure(
            "The connection broke off.", advice="The same command goes on where this one stopped."
        )
    if _digest(partial) != kept["sha256"]:
        partial.unlink()
        raise Failure("What arrived is not the file.", advice="Try again.")
    partial.replace(target)


def _target(to: Path | None, name: str) -> Path:
    target = Path(name) if to is None else to / name if to.is_dir() else to
    if target.exists():
        raise Misused(f"{target} is there already.", advice="Name another place: --to PATH")
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _state(row: Json) -> str:
    if not row["ready"]:
        return "content missing"
    return "in use" if row["reserved"] else "kept"
