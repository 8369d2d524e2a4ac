"""`cvf doctor`: what is wrong with an instance on this machine, and what to do about it.

It changes nothing, asks for no login and needs no running instance. Each finding is one line; a
fault makes the exit code 1.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from cvf_app.console.show import AsJson, as_json, out
from cvf_app.wire import Wire, plain

State = Literal["ok", "warning", "fault"]
_SIGNS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]"}


class Finding(Wire, frozen=True, kw_only=True):
    """One thing that was looked at: how it is, and what to do when it is not well."""

    check: str
    state: State
    found: str
    advice: str = ""


def add_to(app: typer.Typer) -> None:
    """Put the command of this file at the root."""
    app.command()(doctor)


def doctor(
    config: Annotated[
        Path | None, typer.Option(help="instance_config.json; else as the instance finds it.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Say what is wrong with the instance on this machine, and what to do."""
    # Imported here: no other command needs the drivers of all services.
    from cvf_app.console.examination import examine  # noqa: PLC0415 - see above

    findings = tuple(examine(config, dict(os.environ)))
    if json:
        as_json([plain(each) for each in findings])
    else:
        for each in findings:
            _print(each)
    raise typer.Exit(int(any(each.state == "fault" for each in findings)))


def _print(finding: Finding) -> None:
    sign = _SIGNS.get(finding.state, "[red]fault[/red]  ")
    out.print(sign, end=" ")
    advice = f" → {finding.advice}" if finding.advice else ""
    out.print(f"{finding.check}: {finding.found}{advice}", markup=False, soft_wrap=True)
