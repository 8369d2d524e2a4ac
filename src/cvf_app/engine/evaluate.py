"""Answering a plan from a generation: who matches, and which filters were passed over.

Within a segment what narrows cheaply comes first: postings, then expressions and
variants, then groups of terms within what is left, then numbers on the survivors.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice

import numpy as np
from pyroaring import BitMap

from cvf_app.engine.bitmaps import Mask, Rows, all_of, at_least, of_many
from cvf_app.engine.columns import Numbers
from cvf_app.engine.keys import Kind
from cvf_app.engine.plan import (
    SUBJECT,
    AgeWithin,
    Comparison,
    Filter,
    NumberIs,
    OneOf,
    Plan,
    TermGroups,
    TextIs,
    TextMatches,
    WithAlleles,
    WithVariant,
)
from cvf_app.engine.segments import Generation, Segment
from cvf_app.engine.text import matching

# Below this share of the column its survivors are looked up one by one.
_FEW = 8
_COMPARE = {
    Comparison.EQUAL: operator.eq,
    Comparison.GREATER: operator.gt,
    Comparison.LESS: operator.lt,
    Comparison.AT_LEAST: operator.ge,
    Comparison.AT_MOST: operator.le,
}
_Posted = OneOf | TextIs | WithAlleles


@dataclass(frozen=True, slots=True)
class Hits:
    """Who matched; ids and documents are read only when asked for."""

    found: tuple[tuple[Segment, BitMap], ...]
    ignored: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many subjects matched."""
        return sum(len(rows) for _, rows in self.found)

    def ids(self, limit: int | None = None) -> tuple[str, ...]:
        """Return the ids of the subjects, of the first `limit` if given."""
        return tuple(segment.subject_id(row) for segment, row in islice(self._rows(), limit))

    def documents(self, limit: int | None = None) -> list[bytes]:
        """Return the subjects as JSON, the first `limit` if given."""
        return [segment.document(row) for segment, row in islice(self._rows(), limit)]

    def _rows(self) -> Iterator[tuple[Segment, int]]:
        for segment, rows in self.found:
            for row in rows:
                yield segment, row


def evaluate(generation: Generation, plan: Plan) -> Hits:
    """Find all subjects that meet every filter that the generation has data for."""
    had = generation.capability_keys
    lacking = plan.required - had - {SUBJECT}
    if SUBJECT in plan.required and not any(name.startswith(SUBJECT + ".") for name in had):
        lacking |= {SUBJECT}
    ignored = tuple(
        one.path for one in plan.filters if one.key not in had and one.key not in plan.required
    )
    if lacking or not generation.count:
        return Hits((), ignored)
    filters = [one for one in plan.filters if one.key in had]
    found = tuple((segment, _rows(generation, segment, filters)) for segment in generation.segments)
    return Hits(found, ignored)


def _rows(generation: Generation, segment: Segment, filters: Sequence[Filter]) -> BitMap:
    base = all_of([_posted(segment, one) for one in filters if isinstance(one, _Posted)])
    for one in sorted((one for one in filters if not isinstance(one, _Posted)), key=_cost):
        if base is not None and not base:
            return base
        base = _narrow(generation, segment, one, base)
    if base is None:
        return segment.everybody
    return base - segment.dead if segment.dead else base


def _cost(one: Filter) -> tuple[int, int]:
    match one:
        case WithVariant():
            return 0, 0
        case TextMatches():
            return 1, 0
        case TermGroups():
            # Many groups of few needed are the most work, so they meet the smallest base.
            return 2, len(one.groups)
        case _:
            return 3, 0


def _narrow(generation: Generation, segment: Segment, one: Filter, base: BitMap | None) -> BitMap:
    match one:
        case TermGroups():
            sets = [segment.union(one.key, terms) for terms in one.groups]
            return at_least(sets, one.minimum, base)
        case AgeWithin() | NumberIs():
            return _measured(segment, one, base)
        case TextMatches():
            rows = _matched(segment, one)
        case WithVariant():
            rows = _with_variant(generation, segment, one)
        case _:
            raise AssertionError(one)
    return rows if base is None else base & rows


def _posted(segment: Segment, one: _Posted) -> BitMap:
    match one:
        case OneOf():
            return BitMap.union(
                *(segment.posting(Kind.FIELD, one.key, value) for value in one.values)
            )
        case TextIs():
            if isinstance(one.value, bool):
                text = "true" if one.value else "false"
                rows = segment.posting(Kind.TRUTH, one.attribute, text)
            else:
                rows = segment.posting(Kind.TEXT, one.attribute, one.value)
            return _unless(segment, one.attribute, rows, negated=one.negated)
        case WithAlleles():
            return reduce(BitMap.__and__, (_alleles(segment, *gene) for gene in one.genes))


def _alleles(segment: Segment, gene: str, alleles: tuple[str, ...]) -> BitMap:
    if not alleles:
        return segment.posting(Kind.HAS_ALLELES, gene)
    return BitMap.union(*(segment.posting(Kind.ALLELE, gene, allele) for allele in alleles))


def _unless(segment: Segment, attribute: str, rows: BitMap, *, negated: bool) -> BitMap:
    return segment.posting(Kind.HAS_ATTRIBUTE, attribute) - rows if negated else rows


def _matched(segment: Segment, one: TextMatches) -> BitMap:
    def make() -> BitMap:
        first, texts = segment.texts(Kind.TEXT, one.attribute)
        return segment.postings([first + at for at in matching(one.pattern, texts)])

    rows = segment.remembered(("matches", one.attribute, one.pattern), make)
    return _unless(segment, one.attribute, rows, negated=one.negated)


def _with_variant(generation: Generation, segment: Segment, one: WithVariant) -> BitMap:
    pieces: list[Rows] = []
    wanted = frozenset(one.mutations)
    for gene in one.genes or (None,):
        for name, mutation, at in segment.variant_keys(gene):
            if wanted and mutation not in wanted:
                continue
            variants = segment.variants(at)
            if one.max_af >= 1:
                pieces.append(variants.rows)
                continue
            # The local frequency is worked out only where it decides.
            known = int(np.searchsorted(variants.afs, np.inf, side="right"))
            local = one.use_local_af or known < len(variants.rows)
            common = local and generation.local_frequency(name, mutation) > one.max_af
            if one.use_local_af:
                pieces.append(variants.rows[:0] if common else variants.rows)
                continue
            rare = int(np.searchsorted(variants.afs[:known], one.max_af, side="right"))
            pieces.append(variants.rows[:rare])
            if not common:
                pieces.append(variants.rows[known:])
    return of_many(np.concatenate(pieces), segment.count) if pieces else BitMap()


def _measured(segment: Segment, one: AgeWithin | NumberIs, base: BitMap | None) -> BitMap:
    if isinstance(one, AgeWithin):
        column = segment.column(Kind.AGES, one.column)
    else:
        column = segment.column(Kind.NUMBERS, one.attribute)
        if one.negated:
            had = segment.posting(Kind.HAS_ATTRIBUTE, one.attribute)
            base = had if base is None else base & had
    if base is not None and len(base) * _FEW < column.size:
        some = column.of(np.frombuffer(base.to_array(), np.uint32))
        rows = of_many(some.rows[_holds(one, some)], segment.count)
    else:
        rows = column.meeting(partial(_holds, one), segment.count)
    if isinstance(one, NumberIs) and one.negated and base is not None:
        return base - rows
    return rows if base is None else rows & base


def _holds(one: AgeWithin | NumberIs, column: Numbers) -> Mask:
    values = column.values
    if isinstance(one, AgeWithin):
        return np.asarray((values >= one.low) & (values <= one.high), np.bool_)
    return np.asarray(_COMPARE[one.comparison](values, one.value), np.bool_)
