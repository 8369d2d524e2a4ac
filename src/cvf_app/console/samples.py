"""`cvf sample`: synthetic phenopackets to try an instance with."""

import json as text
from pathlib import Path
from typing import Annotated

import typer

from cvf_app.console.sample import phenopackets
from cvf_app.console.show import AsJson, said


def add_to(app: typer.Typer) -> None:
    """Put the command of this file at the root."""
    app.command()(sample)


def sample(
    out: Annotated[Path, typer.Option(help="The folder to write to; made if missing.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same people.")] = 1,
    json: AsJson = False,
) -> None:
    """Write synthetic phenopackets, drawn from disease profiles; nobody is real."""
    out.mkdir(parents=True, exist_ok=True)
    width = len(str(count))
    written = 0
    for number, packet in enumerate(phenopackets(count, seed), start=1):
        content = text.dumps(packet, ensure_ascii=False)
        (out / f"sample-{number:0{width}}.json").write_text(content, encoding="utf-8")
        written = number
    sentence = f"Wrote {written} phenopackets to {out}.\nNext: cvf upload SOURCE {out}"
    said({"count": written, "seed": seed, "folder": str(out)}, sentence, for_program=json)
