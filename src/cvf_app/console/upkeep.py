"""`cvf inspect`: whether documents, files, keys, indices and jobs agree."""

import typer

from cvf_app.console.here import server
from cvf_app.console.show import AsJson, table


def add_to(app: typer.Typer) -> None:
    """Put the command of this file at the root."""
    app.command()(inspect)


def inspect(context: typer.Context, json: AsJson = False) -> None:
    """Look for inconsistency now, as every night does; administrators are told by mail too."""
    columns = {"kind": "Kind", "count": "How many", "explanation": "What", "examples": "The first"}
    found = server(context).send("POST", "/inspections")
    table(found, columns, for_program=json, none="Everything agrees.")
