"""The questions of the query benchmark: every kind, as a plan and as SQL that means the same.

Plans come from `records/compile.py`. Kinds with `~` need similar terms: their expanded sets
are made here, from the hierarchy, the same for both engines ("expansion given").
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.population import CHUNK, CLASSES, NUMBERS, SEED, SEXES, World
from cvf_app.engine import plan
from cvf_app.records.compile import compile_query
from cvf_app.records.model import RecordQuery
from cvf_app.wire import convert

KINDS = ("main", "one", "one~", "10~5", "regex", "variant", "localaf", "numeric")
Groups = list[frozenset[str]]


@dataclass(frozen=True)
class Question:
    """One question for both engines."""

    asked: plan.Plan
    statements: tuple[str, ...]


class Questions:
    """Makes the questions of every kind, from the terms and values of real subjects."""

    def __init__(self, world: World, total: int) -> None:
        """Draw the subjects that questions are made from."""
        self._world = world
        self._draw = np.random.default_rng((SEED, 10**6))
        self._sample = world.chunk(0, min(CHUNK, total))

    def make(self, kind: str) -> Question:
        """Make one question of a kind."""
        return {
            "main": self._main,
            "one": lambda: self._terms(1, 1, similar=False),
            "one~": lambda: self._terms(1, 1, similar=True),
            "10~5": lambda: self._terms(10, 5, similar=True),
            "regex": self._regex,
            "variant": lambda: self._variant(local=False),
            "localaf": lambda: self._variant(local=True),
            "numeric": self._numeric,
        }[kind]()

    def _row(self, least: int) -> Any:  # noqa: ANN401 - any numpy type
        while True:
            row = self._draw.integers(0, len(self._sample["age"]))
            low, high = np.searchsorted(self._sample["hpo_row"], (row, row + 1))
            if high - low >= least:
                return self._sample["hpo_term"][low:high]

    def _groups(self, count: int, minimum: int, *, similar: bool) -> tuple[dict[str, Any], Groups]:
        terms = self._draw.choice(self._row(min(count, 6)), min(count, 6), replace=False).tolist()
        while len(terms) < count:
            terms = list(dict.fromkeys([*terms, int(self._draw.choice(self._row(5)))]))
        names = [self._world.terms[term] for term in terms]
        asked = {"terms": [f"HP:{name}" for name in names], "minimumMatch": minimum}
        return asked, [
            self._world.expanded(name) if similar else frozenset((name,)) for name in names
        ]

    def _terms(self, count: int, minimum: int, *, similar: bool) -> Question:
        asked, groups = self._groups(count, minimum, similar=similar)
        compiled = _with_groups(_compiled({"hpo": [asked]}), groups)
        return Question(compiled, _grouped(self._world, groups, minimum, ""))

    def _range(self, width: int) -> tuple[int, int]:
        low = int(self._draw.integers(0, 90 - width))
        return low, low + width

    def _main(self) -> Question:
        asked, groups = self._groups(3, 2, similar=True)
        low, high = self._range(int(self._draw.integers(25, 45)))
        sex = int(self._draw.integers(0, 2))
        which = int(self._draw.integers(0, 3))
        value = int(self._draw.choice(self._sample[f"cat{which}"]))
        column = int(self._draw.integers(0, NUMBERS))
        above = float(np.round(self._draw.uniform(20, 60), 2))
        compiled = _compiled(
            {
                "subject": {"age": {"min": low, "max": high}, "gender": SEXES[sex].value},
                "hpo": [asked],
                "eav": [
                    _eav(f"cat{which}", "stringIs", f"value {value}"),
                    _eav(f"num{column}", "numericGreaterThan", above),
                ],
            }
        )
        where = (
            f"age BETWEEN {low} AND {high} AND sex = {sex} AND cat{which} = {value} "
            f"AND num{column} > {above}"
        )
        return Question(_with_groups(compiled, groups), _grouped(self._world, groups, 2, where))

    def _regex(self) -> Question:
        text = self._world.texts[int(self._draw.choice(self._sample["text"]))]
        first, rest = text.split("-", 1)
        forms = (
            f"^{first}-.*{text[-1]}$",
            rest[:9],
            f"({first}|{rest[:3]}).{rest[3:6]}",
            f"{text[-4:]}$",
        )
        pattern = forms[int(self._draw.integers(0, len(forms)))]
        compiled = _compiled({"eav": [_eav("text", "regexContains", pattern)]})
        sql = f"SELECT count(*) FROM s WHERE regexp_matches(text, '{pattern}')"
        fewer = (
            "SELECT count(*) FROM s WHERE text_at IN "
            f"(SELECT id FROM texts WHERE regexp_matches(text, '{pattern}'))"
        )
        return Question(compiled, (sql, fewer))

    def _variant(self, *, local: bool) -> Question:
        genes = self._draw.choice(self._sample["gene"], int(self._draw.integers(1, 4))).tolist()
        classes = self._draw.choice(len(CLASSES), 2, replace=False).tolist()
        most = float(
            self._draw.choice([0.001, 0.01, 0.05])
            if not local
            else self._draw.choice([5e-5, 1e-4, 2e-4])
        )
        asked = {
            "genes": [self._world.genes[gene] for gene in genes],
            "mutation": [CLASSES[one].value for one in classes],
            "maxAf": most,
            "useLocalAf": local,
        }
        used = "local" if local else "coalesce(af, local)"
        sql = (
            f"SELECT count(DISTINCT row) FROM v JOIN l USING (gene, class) WHERE gene IN "
            f"({_list(genes)}) AND class IN ({_list(classes)}) AND {used} <= {most}"
        )
        return Question(_compiled({"variant": [asked]}), (sql,))

    def _numeric(self) -> Question:
        low, high = self._range(int(self._draw.integers(15, 40)))
        sex = int(self._draw.integers(0, 2))
        column = int(self._draw.integers(0, NUMBERS))
        below = float(np.round(self._draw.uniform(30, 70), 2))
        compiled = _compiled(
            {
                "subject": {"age": {"min": low, "max": high}, "gender": SEXES[sex].value},
                "eav": [_eav(f"num{column}", "numericLessThanOrEqual", below)],
            }
        )
        where = f"age BETWEEN {low} AND {high} AND sex = {sex} AND num{column} <= {below}"
        return Question(compiled, (f"SELECT count(*) FROM s WHERE {where}",))


def _eav(attribute: str, relation: str, value: object) -> dict[str, object]:
    return {"attribute": attribute, "relation": relation, "value": value}


def _compiled(query: dict[str, Any]) -> plan.Plan:
    return compile_query(convert(query, RecordQuery))


def _with_groups(compiled: plan.Plan, groups: Groups) -> plan.Plan:
    filters = tuple(
        replace(one, groups=tuple(groups)) if isinstance(one, plan.TermGroups) else one
        for one in compiled.filters
    )
    return replace(compiled, filters=filters)


def _list(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _grouped(world: World, groups: Groups, minimum: int, where: str) -> tuple[str, ...]:
    """Say the same question in several ways; the quickest is the one that counts."""
    sets = [_list(sorted(world.number[term] for term in group)) for group in groups]
    every = _list(sorted({world.number[term] for group in groups for term in group}))
    both = f"WHERE {where} AND" if where else "WHERE"
    if len(groups) == 1:
        inner = f"row IN (SELECT row FROM h WHERE term IN ({every}))"
        return (
            f"SELECT count(*) FROM s {both} {inner}",
            *(() if where else (f"SELECT count(DISTINCT row) FROM h WHERE term IN ({every})",)),
        )
    enough = " + ".join(f"bool_or(term IN ({one}))::INT" for one in sets)
    base = f"SEMI JOIN (SELECT row FROM s WHERE {where}) USING (row)" if where else ""
    pairs = ", ".join(
        f"({world.number[term]}, {at})" for at, group in enumerate(groups) for term in group
    )
    flat = (
        f"SELECT count(*) FROM (SELECT row FROM h {base} WHERE term IN ({every}) "
        f"GROUP BY row HAVING {enough} >= {minimum})"
    )
    joined = (
        f"WITH g(term, n) AS (VALUES {pairs}) SELECT count(*) FROM (SELECT row FROM h "
        f"JOIN g USING (term) {base} GROUP BY row HAVING"
    )
    return (
        flat,
        f"{joined} count(DISTINCT n) >= {minimum})",
        f"{joined} bit_count(bit_or((1 << n)::INT)) >= {minimum})",
    )
