"""Parts of one subject become one, and values of attributes get their types.

Pure. Equal values are kept once, in the order of first sight; of a field the first value wins.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cvf_app.pipelines.model import Unreadable
from cvf_app.subject import EavValue, GeneAlleles, Scalar, Subject, Variant

MOST_ATTRIBUTES = 10_000
_FIELDS = (
    "sex",
    "age",
    "age_first_diagnosis",
    "age_first_symptoms",
    "family_type",
    "affected",
)
_LISTS = ("hpo", "excluded_hpo", "ordo", "snomed", "ncit")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"-?[0-9]+")
_TRUTH = {"true": True, "false": False}
_NUMERIC, _BOOLEAN = 1, 2


def merge(parts: Sequence[Subject]) -> Subject:
    """Join the parts of one subject; a term that any part observed is not excluded."""
    first = parts[0]
    if len(parts) == 1:
        return first
    whole: dict[str, Any] = {
        name: next((found for part in parts if (found := getattr(part, name)) is not None), None)
        for name in _FIELDS
    }
    for name in _LISTS:
        whole[name] = _once(value for part in parts for value in getattr(part, name))
    observed = {term if isinstance(term, str) else next(iter(term)) for term in whole["hpo"]}
    whole["excluded_hpo"] = tuple(t for t in whole["excluded_hpo"] if t not in observed)
    whole["variant"] = _most(part.variant for part in parts)
    whole["alleles"] = join_alleles(entry for part in parts for entry in part.alleles)
    values: dict[str, list[Scalar]] = {}
    for part in parts:
        for name, value in part.eav.items():
            values.setdefault(name, []).extend(value if isinstance(value, tuple) else (value,))
    whole["eav"] = {name: one_or_all(_once(found)) for name, found in values.items()}
    return msgspec.structs.replace(first, **whole)


def one_or_all(values: tuple[Scalar, ...]) -> EavValue:
    """Return a single value as it is, several as they are together."""
    return values[0] if len(values) == 1 else values


def join_alleles(entries: Iterable[GeneAlleles]) -> tuple[GeneAlleles, ...]:
    """Put the alleles of each gene together."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.gene, []).extend(entry.alleles)
    return tuple(
        GeneAlleles(gene=gene, alleles=tuple(dict.fromkeys(names))) for gene, names in found.items()
    )


def scalar(text: str) -> Scalar:
    """Return the number or the truth that a text is, else the text (values of qualifiers)."""
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    return _number(text) if _is_number(text) else text


class Types:
    """The type of every attribute, decided by all its values in one file, if none is declared."""

    def __init__(self, kinds: dict[str, int] | None = None) -> None:
        """Begin without attributes, or with what was learnt elsewhere."""
        self.kinds: dict[str, int] = {} if kinds is None else kinds

    def see(self, eav: dict[str, EavValue], declared: frozenset[str] = frozenset()) -> None:
        """Learn from the values of one part, which are still texts; declared ones are passed over.

        Raises:
            Unreadable: there are too many attributes.
        """
        kinds = self.kinds
        for name, value in eav.items():
            if name in declared:
                continue
            kind = kinds.get(name)
            if kind is None:
                kind = self._new()
            if kind:
                if isinstance(value, str):
                    kind &= _kind(value)
                else:
                    for text in value if isinstance(value, tuple) else (value,):
                        kind &= _kind(str(text))
                kinds[name] = kind

    def join(self, kinds: dict[str, int]) -> None:
        """Learn what another part of the same file showed.

        Raises:
            Unreadable: there are too many attributes.
        """
        for name, kind in kinds.items():
            known = self.kinds.get(name)
            self.kinds[name] = (self._new() if known is None else known) & kind

    def typed(self, subject: Subject) -> Subject:
        """Give the texts of a whole subject's attributes their types."""
        eav: dict[str, EavValue] = {}
        for name, value in subject.eav.items():
            kind = self.kinds.get(name)
            if kind is None:
                # Nobody saw it: its values have their types already.
                eav[name] = value
            elif isinstance(value, str):
                eav[name] = _as(kind, value) if kind else value
            else:
                texts = value if isinstance(value, tuple) else (value,)
                eav[name] = one_or_all(_once(_as(kind, str(text)) for text in texts))
        return msgspec.structs.replace(subject, eav=eav) if eav else subject

    def _new(self) -> int:
        if len(self.kinds) >= MOST_ATTRIBUTES:
            raise Unreadable(f"The file gives more than {MOST_ATTRIBUTES} different attributes.")
        return _NUMERIC | _BOOLEAN


def _most(parts: Iterable[tuple[Variant, ...]]) -> tuple[Variant, ...]:
    # Two equal variants of one part are two for the count of alleles; those that come again in
    # another part are the same ones.
    most: dict[Variant, int] = {}
    for part in parts:
        for variant, many in Counter(part).items():
            most[variant] = max(most.get(variant, 0), many)
    return tuple(variant for variant, many in most.items() for _ in range(many))


def _once(values: Iterable[Any]) -> tuple[Any, ...]:
    # A qualified term cannot be hashed, its JSON can; that also keeps 1, 1.0 and true apart.
    seen: dict[Any, Any] = {}
    for value in values:
        seen.setdefault(value if isinstance(value, str) else msgspec.json.encode(value), value)
    return tuple(seen.values())


def _is_number(text: str) -> bool:
    found = _NUMBER.fullmatch(text)
    # Without an exponent there are too few digits to be infinite.
    return found is not None and (found[1] is None or math.isfinite(float(text)))


def _number(text: str) -> int | float:
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _kind(text: str) -> int:
    if _is_number(text):
        return _NUMERIC
    return _BOOLEAN if text.lower() in _TRUTH else 0


def _as(kind: int, text: str) -> Scalar:
    if kind == _NUMERIC:
        return _number(text)
    return _TRUTH[text.lower()] if kind == _BOOLEAN else text
