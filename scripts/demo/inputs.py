"""The files that a demonstration of data in takes in, and what is known of them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.tables import Table
from cvf_app.console.sample import phenopackets
from cvf_app.console.upload import pack
from scripts.demo.planted import NOTE_BYTES, Planted, Question, questions

SEED = 20261121
PRIOR = 1000
_HEADER_AND_CELLS = 170
_HUNGRY = 15 * 2**20


@dataclass(frozen=True)
class Inputs:
    """A zip of phenopackets, a small table, a hungry one, and a large one with faults."""

    packets: Path
    people: int
    women: int
    prior: Path
    prior_counts: list[Question]
    hungry: Path
    table: Path
    planted: Planted

    @classmethod
    def make(cls, folder: Path, people: int, mib: int) -> "Inputs":
        """Write all of them; the large table has about so many MiB."""
        packed, women = folder / "packets", 0
        packed.mkdir()
        for packet in phenopackets(people, SEED):
            women += packet["subject"]["sex"] == "FEMALE"
            (packed / f"{packet['id']}.json").write_text(json.dumps(packet))
        pack(packed, folder / "packets.zip")
        shutil.rmtree(packed)
        prior = Table(PRIOR, SEED + 1, units=True, prefix="Q")
        planted = Planted(mib * 2**20 // (NOTE_BYTES + _HEADER_AND_CELLS), SEED)
        return cls(
            packets=folder / "packets.zip",
            people=people,
            women=women,
            prior=prior.write(folder / "prior.csv"),
            prior_counts=questions(prior, np.ones(PRIOR, dtype=bool)),
            hungry=_write_hungry(folder / "hungry.csv"),
            table=planted.write(folder / "table.csv"),
            planted=planted,
        )


def _write_hungry(path: Path) -> Path:
    """Write a table that takes little memory but for one row, which takes many times its size.

    Its last cell has one letter beyond the first plane of Unicode, and every letter takes four
    bytes then.
    """
    table = Table(PRIOR, SEED + 2, note=100, prefix="H")
    table.write(path)
    row = b",".join([b"H", *[b""] * (len(table.columns) - 2), b"x" * _HUNGRY + "🧬\n".encode()])
    with path.open("ab") as out:
        out.write(row)
    return path
