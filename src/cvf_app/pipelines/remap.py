"""Staged rows and a remap pipeline become parts of subjects.

Pure. Every staged row gives a part, even an empty one: no subject is lost. What gave nothing is
named under its column. Attributes are still texts; `merge.Types` decides what they are.
"""

import re
from typing import Any, NamedTuple

from cvf_app.pipelines.demographics import FIELDS
from cvf_app.pipelines.expand import Staged
from cvf_app.pipelines.merge import join_alleles, scalar
from cvf_app.pipelines.model import Directive, RemapPipeline
from cvf_app.pipelines.patterns import Compiled, compile_set, matches
from cvf_app.subject import GeneAlleles, Mutation, Subject, Variant

_REMEMBERED = 20_000
MOST_NAMES = 20_000
_MUTATIONS = {entry.value: entry for entry in Mutation}
_CODES = {
    "hpo": re.compile(r"(?i:HP[:_])?([0-9]{7})"),
    "ordo": re.compile(r"(?i:(?:ORPHA|ORPHANET|ORDO)[:_])?([1-9][0-9]{0,5})"),
    "snomedCT": re.compile(r"(?i:(?:SNOMED(?:[ _-]?CT)?|SCT(?:ID)?)[:_])?([1-9][0-9]{5,17})"),
    "ncit": re.compile(r"(?i:NCIT[:_])?([Cc][0-9]{1,9})"),
}
_LISTS = {"hpo": "hpo", "ordo": "ordo", "snomedCT": "snomed", "ncit": "ncit"}
_UNSAFE = re.compile(r"[.$/\\\x00-\x1f\x7f]")


class Part(NamedTuple):
    """Part of a subject, and the (column, cell or code) pairs that gave nothing."""

    subject: Subject
    unmatched: tuple[tuple[str, str], ...]


class _Given(NamedTuple):
    field: str
    value: Any


class _Step(NamedTuple):
    directive: Directive
    sets: tuple[Compiled, ...]
    attribute: str | None
    """The attribute that every cell is a value of, where that is all that is asked for."""
    known: dict[str, tuple[tuple[_Given, ...], tuple[str, ...]]]


class Remap:
    """A remap pipeline, compiled."""

    def __init__(self, pipeline: RemapPipeline) -> None:
        """Compile every pattern.

        Raises:
            Invalid: one cannot be compiled; the path says which.
        """
        self.display_names: dict[str, str] = {}
        self._codes: dict[str, dict[str, _Given | None]] = {name: {} for name in _CODES}
        self._steps = tuple(
            _Step(
                directive,
                tuple(
                    compile_set(given, f"$.directives[{n}].patternSets[{m}]")
                    for m, given in enumerate(directive.pattern_sets)
                ),
                _plain_attribute(directive),
                {},
            )
            for n, directive in enumerate(pipeline.directives)
        )

    def forget(self) -> None:
        """Begin anew: names and cells seen so far are as if never seen."""
        self.display_names = {}
        for step in self._steps:
            step.known.clear()

    def part(self, staged: Staged) -> Part:
        """Return what one staged row says of its subject."""
        fields: dict[str, list[Any]] = {}
        eav: dict[str, list[str]] = {}
        unmatched: list[tuple[str, str]] = []
        cells = staged.cells
        for step in self._steps:
            origin = step.directive.origin
            found = cells.get(origin)
            if found is None:
                continue
            if step.attribute is not None:
                self._plain(step.attribute, origin, found, eav)
                continue
            for cell in found:
                known = step.known.get(cell)
                if known is None:
                    known = self._learn(step, cell)
                if known[1]:
                    unmatched.extend((origin, text) for text in known[1])
                for field, value in known[0]:
                    if field == "eav":
                        _add(eav.setdefault(value[0], []), value[1])
                    else:
                        _add(fields.setdefault(field, []), value)
        return Part(_subject(staged, fields, eav), tuple(dict.fromkeys(unmatched)))

    def _plain(
        self, attribute: str, origin: str, found: list[str], eav: dict[str, list[str]]
    ) -> None:
        texts = eav.get(attribute)
        if texts is None:
            eav[attribute] = list(found)
        else:
            for text in found:
                _add(texts, text)
        if attribute != origin:
            self._name(attribute, origin)

    def _name(self, attribute: str, written: str) -> None:
        if len(self.display_names) < MOST_NAMES:
            self.display_names.setdefault(attribute, written)

    def _learn(self, step: _Step, cell: str) -> tuple[tuple[_Given, ...], tuple[str, ...]]:
        if len(step.known) >= _REMEMBERED:
            step.known.clear()
        found = step.known[cell] = self._work(step, cell)
        return found

    def _work(self, step: _Step, cell: str) -> tuple[tuple[_Given, ...], tuple[str, ...]]:
        results: list[tuple[str, str | None]] = [] if step.sets else [(cell, None)]
        for given in step.sets:
            results = list(matches(given, cell))
            if results:
                break
        if not results:
            return (), (cell,)
        made: list[_Given] = []
        failed: list[str] = []
        for result, value in results:
            one = self._made(step.directive, result, value)
            if one is None:
                failed.append(result or cell)
            else:
                made.append(one)
        return tuple(made), tuple(failed)

    def _made(self, directive: Directive, result: str, value: str | None) -> _Given | None:
        match directive.destination:
            case "eav":
                return self._attribute(directive.origin, result, value)
            case "gene":
                return _gene(result, value)
            case "subject":
                name, text = (directive.origin, result) if value is None else (result, value)
                field, read = FIELDS.get(name, ("", lambda _: None))
                found = read(text)
                return None if found is None else _Given(field, found)
            case destination:
                return self._code(destination, result, value)

    def _code(self, destination: str, result: str, value: str | None) -> _Given | None:
        if value:
            code = _CODES[destination].fullmatch(result)
            return code and _Given(_LISTS[destination], {code[1].upper(): scalar(value)})
        known = self._codes[destination]
        if result not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            code = _CODES[destination].fullmatch(result)
            known[result] = code and _Given(_LISTS[destination], code[1].upper())
        return known[result]

    def _attribute(self, origin: str, result: str, value: str | None) -> _Given | None:
        written, text = (origin, result) if value is None else (result, value)
        if not written or not text:
            return None
        name = attribute_name(written)
        if name != written:
            self._name(name, written)
        return _Given("eav", (name, text))


def _plain_attribute(directive: Directive) -> str | None:
    if directive.destination != "eav" or directive.pattern_sets or not directive.origin:
        return None
    return attribute_name(directive.origin)


def attribute_name(written: str) -> str:
    """Return the key under which subjects keep an attribute that is written so."""
    return _UNSAFE.sub("_", written)


def _gene(symbol: str, value: str | None) -> _Given | None:
    if not symbol:
        return None
    if not value or value in _MUTATIONS:
        mutation = _MUTATIONS[value] if value else None
        return _Given("variant", Variant(gene=symbol, mutation=mutation))
    names = tuple(name.strip() for name in re.split(r"[/|]", value) if name.strip())
    return _Given("alleles", GeneAlleles(gene=symbol, alleles=names)) if names else None


def _add(values: list[Any], value: object) -> None:
    if value not in values:
        values.append(value)


def _subject(staged: Staged, fields: dict[str, list[Any]], eav: dict[str, list[str]]) -> Subject:
    made: dict[str, Any] = {}
    for field, values in fields.items():
        if field == "alleles":
            made[field] = join_alleles(values)
        elif field in {"hpo", "ordo", "snomed", "ncit", "variant"}:
            made[field] = tuple(values)
        else:
            made[field] = values[0]
    if eav:
        made["eav"] = {
            name: texts[0] if len(texts) == 1 else tuple(texts) for name, texts in eav.items()
        }
    return Subject(subject_id=staged.subject_id, **made)
