"""Large tables of made-up people, written fast, whose every answer is known beforehand.

A row is put together from three pools of prepared cells drawn for it by the seed, so that a
gigabyte takes seconds and the same seed gives the same bytes. What is true of how many people
follows from the numbers that were drawn, never from the file.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

POOL = 4096
AT_ONCE = 8192
COLUMNS = (
    "subject_id",
    "sex",
    "age",
    "onset",
    "hpo",
    "disease",
    "gene",
    "height",
    "weight",
    "pulse",
    "visits",
    "haemoglobin",
    "smoker",
    "blood_group",
    "enrolled",
    "site",
    "ward",
    "vital_status",
    "consent",
    "study",
)
BLOOD_GROUPS = ("0", "A", "B", "AB")
SITES = ("Aarhus", "Bergamo", "Coimbra", "Dijon", "Évora", "Graz", "Łódź", "Tromsø")
_TERMS = 2000
_CLASSES = ("missense", "frameshift", "nonsense", "splice", "lossOfStart")
Cells = dict[str, Any]
Test = Callable[[Cells], bool]


@dataclass(frozen=True)
class Pool:
    """Prepared pieces of a row: their bytes, and the same cells as values."""

    pieces: tuple[bytes, ...]
    cells: tuple[Cells, ...]


@dataclass(frozen=True)
class Table:
    """So many rows, one person each.

    `note` adds a column of texts of about so many bytes; with `units` some heights are written in
    millimetres, and say so, while the others are bare numbers in centimetres.
    """

    rows: int
    seed: int = 20261121
    note: int = 0
    units: bool = False
    prefix: str = "P"
    drawn: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return (*COLUMNS, "note") if self.note else COLUMNS

    @property
    def header(self) -> bytes:
        """Return the first line."""
        return ",".join(self.columns).encode() + b"\n"

    @cached_property
    def pools(self) -> dict[str, Pool]:
        """Return the prepared pieces, in the order in which they stand in a row."""
        chance = random.Random(self.seed)
        makers: dict[str, Callable[[random.Random], tuple[str, Cells]]] = {
            "person": _person,
            "body": partial(_body, units=self.units),
            "place": _place,
        }
        pools: dict[str, Pool] = {}
        for name, maker in makers.items():
            made = [maker(chance) for _ in range(POOL)]
            pools[name] = Pool(
                tuple(text.encode() for text, _ in made), tuple(cells for _, cells in made)
            )
        notes = [_note(chance, self.note) for _ in range(POOL // 16)] if self.note else [""]
        pools["note"] = Pool(tuple(text.encode() for text in notes), tuple({} for _ in notes))
        return pools

    def indices(self, pool: str) -> np.ndarray:
        """Return which piece of a pool each row has."""
        if pool not in self.drawn:
            number = list(self.pools).index(pool)
            draw = np.random.default_rng((self.seed, number))
            self.drawn[pool] = draw.integers(0, len(self.pools[pool].pieces), self.rows)
        return self.drawn[pool]

    def true_for(self, pool: str, test: Test) -> np.ndarray:
        """Return for each row whether something is true of its cells of one pool."""
        return np.array([test(cells) for cells in self.pools[pool].cells])[self.indices(pool)]

    def name(self, row: int) -> str:
        """Return the subject id of a row, from 0."""
        return f"{self.prefix}{row:08d}"

    def lines(self, first: int, last: int) -> list[bytes]:
        """Return the rows from one number up to, not including, another."""
        names = list(self.pools)
        pools = [self.pools[name].pieces for name in names]
        drawn = [self.indices(name)[first:last].tolist() for name in names]
        form = f"{self.prefix}%08d,%b,%b,%b".encode() + (b",%b\n" if self.note else b"%b\n")
        persons, bodies, places, notes = pools
        numbers = range(first, last)
        return [
            form % (row, persons[p], bodies[b], places[q], notes[n])
            for row, p, b, q, n in zip(numbers, *drawn, strict=True)
        ]

    def blocks(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield all rows, some thousands at a time, each with the number of its first."""
        for first in range(0, self.rows, AT_ONCE):
            yield first, self.lines(first, min(self.rows, first + AT_ONCE))

    def write(self, path: Path) -> Path:
        """Write the table as CSV."""
        with path.open("wb") as out:
            out.write(self.header)
            for _, lines in self.blocks():
                out.write(b"".join(lines))
        return path


def file_pipeline(name: str) -> dict[str, Any]:
    """Return how the file is read."""
    return {
        "pipelineType": "filePipeline",
        "pipelineName": name,
        "subjectIdLocation": "attributeInFile",
        "grouping": "individual",
        "internalDelimiter": ",",
        "attribute": "subject_id",
    }


def remap_pipeline(name: str) -> dict[str, Any]:
    """Return what becomes of every column but the notes."""
    directives = [
        _directive("sex", "snomedCT", ("^male$", "248153007"), ("^female$", "248152002")),
        _directive("age", "snomedCT", (r"^\d+$", "424144002", r"\g<0>")),
        _directive("onset", "subject", (r"^\d+$", "ageFirstSymptoms", r"\g<0>")),
        _directive("hpo", "hpo", (r"HP:(\d{7})", r"\1")),
        _directive("gene", "gene", ("([^|=]+)=([^|]*)", r"\1", r"\2")),
    ]
    plain = [name for name in COLUMNS[1:] if name not in {"sex", "age", "onset", "hpo", "gene"}]
    directives += [_directive(name, "eav") for name in plain]
    return {"pipelineType": "remapPipeline", "pipelineName": name, "directives": directives}


def _directive(origin: str, destination: str, *patterns: tuple[str, ...]) -> dict[str, Any]:
    sets: list[dict[str, str]] = [
        {"patternSetType": "basic", "pattern": one[0], "replacement": one[1]}
        if len(one) == 2
        else {
            "patternSetType": "qualifier",
            "pattern": one[0],
            "qualifierReplacement": one[1],
            "valueReplacement": one[2],
        }
        for one in patterns
    ]
    return {
        "directiveType": "termSet",
        "destination": destination,
        "origin": origin,
        "patternSets": sets,
    }


def _person(chance: random.Random) -> tuple[str, Cells]:
    age = chance.randint(0, 95)
    onset = chance.randint(0, age)
    sex = chance.choice(("male", "female"))
    terms = sorted({f"{chance.randrange(_TERMS):07d}" for _ in range(chance.randint(1, 7))})
    disease = f"OMIM:{chance.randint(100000, 100400)}"
    gene = f"GENE{chance.randrange(600)}={chance.choice(_CLASSES)}"
    hpo = "|".join(f"HP:{term}" for term in terms)
    return f"{sex},{age},{onset},{hpo},{disease},{gene}", {
        "sex": sex,
        "age": age,
        "hpo": terms,
        "gene": gene.partition("=")[0],
    }


def _body(chance: random.Random, *, units: bool) -> tuple[str, Cells]:
    height = chance.randint(480, 2050) / 10
    weight = chance.randint(25, 1400) / 10
    pulse = chance.randint(45, 160)
    visits = chance.randint(0, 40)
    blood = chance.randint(60, 180) / 10
    smoker = chance.choice(("true", "false"))
    group = chance.choice(BLOOD_GROUPS)
    day = f"20{chance.randint(10, 26)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
    cells = {"height": height, "visits": visits, "smoker": smoker == "true", "blood_group": group}
    written = f"{height:.1f}"
    if units and chance.random() < 0.1:
        written = f"{height * 10:.0f} mm"
    text = f"{written},{weight:.1f},{pulse},{visits},{blood:.1f},{smoker},{group},{day}"
    return text, cells


def _place(chance: random.Random) -> tuple[str, Cells]:
    site = chance.choice(SITES)
    ward = f"W{chance.randrange(60)}"
    vital = chance.choice(("alive", "alive", "alive", "deceased", "unknown"))
    consent = chance.choice(("broad", "study", "none"))
    study = f"ST{chance.randrange(25):03d}"
    return f"{site},{ward},{vital},{consent},{study}", {"site": site, "vital_status": vital}


def _note(chance: random.Random, size: int) -> str:
    """Write a text that holds what texts hold: other scripts, quotation marks, line breaks."""
    words = ("Anamnese", "Größe", "später", "œdème", "пациент", "患者", "follow-up", "40 °C")
    text = ""
    while len(text.encode()) < size:
        text += chance.choice(words) + " "
    text = text.strip()
    kind = chance.randrange(16)
    if kind == 0:
        place = text.index(" ", len(text) // 2)
        return f'"{text[:place]}\n""seen again"", {text[place:]}"'
    return f'"{text[:20]}, {text[20:]}"' if kind < 4 else text
