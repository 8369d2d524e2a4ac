"""What some thousands of subjects hold, by key: gathered row by row, written sorted as a run.

Millions of values pass through here: tables are nested by kind and name, so that a value is found
by its text alone, and calls are few.
"""

import struct
from array import array
from collections.abc import Iterator
from operator import itemgetter

import numpy as np

from cvf_app.engine.columns import Numbers
from cvf_app.engine.keys import Kind, key, number, prefix
from cvf_app.engine.plan import AFFECTED, AGE, EAV, FAMILY_TYPE, GENDER, GENES, VARIANT
from cvf_app.subject import EavValue, Sex, Subject

VARIANT_RECORD = np.dtype([("af", "<f8"), ("row", "<u4"), ("ac", "<u4")])
_HAS = "has"
_NUMBER_HEAD = struct.Struct("<Q")
_Table = dict[str, "array[int]"]


class _Attribute:
    """What some thousands of subjects hold of one attribute."""

    __slots__ = ("has", "numbers", "texts", "truths")

    def __init__(self) -> None:
        self.has = array("I")
        self.texts: _Table = {}
        self.truths: _Table = {}
        self.numbers: _Numbers = (array("I"), array("d"))


_Numbers = tuple["array[int]", "array[float]"]


class Gathered:
    """What some thousands of subjects hold, by key, with the rows in ascending order."""

    def __init__(self) -> None:
        """Begin without subjects."""
        self._fields: dict[str, _Table] = {
            name: {} for name in ("hpo", "ordo", "snomed", _HAS, GENDER, FAMILY_TYPE, AFFECTED)
        }
        self._alleles: dict[str, _Table] = {}
        self._has_alleles: _Table = {}
        self._ages: dict[str, _Numbers] = {}
        self._variants: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
        self._attributes: dict[str, _Attribute] = {}

    def index(self, subject: Subject, row: int) -> None:
        """Note everything of a subject that can be asked for."""
        self._demographics(subject, row)
        self._terms(subject, row)
        has = self._fields[_HAS]
        for entry in subject.alleles:
            for allele in entry.alleles:
                _post(self._alleles.setdefault(entry.gene, {}), allele, row)
                _post(self._has_alleles, entry.gene, row)
                _post(has, GENES, row)
        for variant in subject.variant:
            mutation = "" if variant.mutation is None else variant.mutation.value
            af = float("nan") if variant.af is None else variant.af
            ac = 1 if variant.ac is None else variant.ac
            self._variants.setdefault((variant.gene, mutation), []).append((af, row, ac))
            _post(has, VARIANT, row)
        if subject.eav:
            for attribute, value in subject.eav.items():
                self._attribute(attribute, value, row)
            # An attribute may be an empty list, which is nothing.
            if any(value != () for value in subject.eav.values()):
                _post(has, EAV, row)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Give every key with its rows or values as bytes, in the order of the keys."""
        made: list[tuple[bytes, bytes]] = []
        for name, table in self._fields.items():
            _add_all(made, Kind.FIELD, name, table)
        for gene, table in self._alleles.items():
            _add_all(made, Kind.ALLELE, gene, table)
        for gene, rows in self._has_alleles.items():
            made.append((key(Kind.HAS_ALLELES, gene), rows.tobytes()))
        for name, ages in self._ages.items():
            made.append((key(Kind.AGES, name), _written(ages)))
        for name, found in self._attributes.items():
            if found.has:
                made.append((key(Kind.HAS_ATTRIBUTE, name), found.has.tobytes()))
            _add_all(made, Kind.TEXT, name, found.texts)
            _add_all(made, Kind.TRUTH, name, found.truths)
            if found.numbers[0]:
                made.append((key(Kind.NUMBERS, name), _written(found.numbers)))
        for (gene, mutation), entries in self._variants.items():
            written = np.array(entries, VARIANT_RECORD).tobytes()
            made.append((key(Kind.VARIANTS, gene, mutation), written))
        made.sort(key=itemgetter(0))
        return iter(made)

    def _terms(self, subject: Subject, row: int) -> None:
        fields = self._fields
        has = fields[_HAS]
        for name, terms in (
            ("hpo", subject.hpo),
            ("ordo", subject.ordo),
            ("snomed", subject.snomed),
        ):
            if not terms:
                continue
            table = fields[name]
            for term in terms:
                for one in (term,) if isinstance(term, str) else term:
                    rows = table.get(one)
                    if rows is None:
                        table[one] = array("I", (row,))
                    elif rows[-1] != row:
                        rows.append(row)
                    _post(has, name, row)

    def _demographics(self, subject: Subject, row: int) -> None:
        fields = self._fields
        has = fields[_HAS]
        for name, age in (
            ("age", subject.age),
            ("ageFirstDiagnosis", subject.age_first_diagnosis),
            ("ageFirstSymptoms", subject.age_first_symptoms),
        ):
            if age is not None:
                pair = self._ages.get(name)
                if pair is None:
                    pair = self._ages[name] = (array("I"), array("d"))
                pair[0].append(row)
                pair[1].append(number(age))
                _post(has, AGE, row)
        if subject.sex is not None:
            _post(fields[GENDER], _SEXES[subject.sex], row)
            _post(has, GENDER, row)
        if subject.family_type is not None:
            _post(fields[FAMILY_TYPE], subject.family_type.value, row)
            _post(has, FAMILY_TYPE, row)
        if subject.affected is not None:
            _post(fields[AFFECTED], "true" if subject.affected else "false", row)
            _post(has, AFFECTED, row)

    def _attribute(self, attribute: str, value: EavValue, row: int) -> None:
        found = self._attributes.get(attribute)
        if found is None:
            found = self._attributes[attribute] = _Attribute()
        if value != ():
            found.has.append(row)
        for element in value if isinstance(value, tuple) else (value,):
            # A truth value is an integer to Python, but no number to a person who asks.
            if isinstance(element, str):
                rows = found.texts.get(element)
                if rows is None:
                    found.texts[element] = array("I", (row,))
                elif rows[-1] != row:
                    rows.append(row)
            elif isinstance(element, bool):
                _post(found.truths, "true" if element else "false", row)
            else:
                found.numbers[0].append(row)
                found.numbers[1].append(number(element))


_SEXES = {sex: sex.value for sex in Sex}


def _post(table: _Table, value: str, row: int) -> None:
    """Note that a row has a value, once."""
    rows = table.get(value)
    if rows is None:
        table[value] = array("I", (row,))
    elif rows[-1] != row:
        rows.append(row)


def _add_all(made: list[tuple[bytes, bytes]], kind: Kind, name: str, table: _Table) -> None:
    start = prefix(kind, name)
    made += [(start + value.encode(), rows.tobytes()) for value, rows in table.items()]


def _written(numbers: _Numbers) -> bytes:
    rows, values = numbers
    return _NUMBER_HEAD.pack(len(rows)) + rows.tobytes() + values.tobytes()


def numbers_of(payload: bytes) -> Numbers:
    """Return the numbers of a record of a run."""
    (count,) = _NUMBER_HEAD.unpack_from(payload)
    start = _NUMBER_HEAD.size
    rows = np.frombuffer(payload, "<u4", count, start)
    return Numbers(rows, np.frombuffer(payload, "<f8", count, start + rows.nbytes))
