"""Declared attributes against the values of one row or one phenopacket after another.

Pure. What a declaration does not name passes as it is; how its type is settled is told in `merge`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from cvf_app.pipelines.attributes import AttributeFault, AttributeSchema, Mismatch, item_type
from cvf_app.pipelines.model import QualifierPattern, Refusal, RemapPipeline
from cvf_app.pipelines.remap import attribute_name
from cvf_app.pipelines.values import Fault, converted_one, read_value, together
from cvf_app.subject import EavValue, Scalar, Subject

_REMEMBERED = 20_000
_KEPT = " (the value was left out, the row kept)"
_ABSENT = "a value is required here and there is none"


class Checker:
    """Declared attributes, ready to read the values of one row or phenopacket after another."""

    def __init__(
        self,
        schemas: Sequence[AttributeSchema],
        mismatch: Mismatch = "refuse",
        fed: frozenset[str] | None = None,
    ) -> None:
        """Check by these; of required ones only those in `fed`, if given, have to be there."""
        self._mismatch = mismatch
        self._schemas = {schema.name: schema for schema in schemas}
        self._known: dict[str, dict[str, EavValue | Fault]] = {name: {} for name in self._schemas}
        self._required = tuple(
            schema.name
            for schema in schemas
            if schema.required and (fed is None or schema.name in fed)
        )

    @property
    def names(self) -> frozenset[str]:
        """The attributes whose type is declared."""
        return frozenset(self._schemas)

    def admit(
        self, subject: Subject, units: Mapping[str, str] | None = None
    ) -> tuple[Subject | None, tuple[AttributeFault, ...]]:
        """Return a part of a subject with its declared attributes typed, and what was wrong.

        Where faults are refused there is no part at all; where they are flagged it comes without
        the values at fault.
        """
        if not self._schemas:
            return subject, ()
        typed, faults = self.checked(subject.eav, units)
        if faults and self._mismatch == "refuse":
            return None, faults
        return msgspec.structs.replace(subject, eav=typed), faults

    def checked(
        self, eav: Mapping[str, EavValue], units: Mapping[str, str] | None = None
    ) -> tuple[dict[str, EavValue], tuple[AttributeFault, ...]]:
        """Return the values with the declared ones typed, without those at fault, and the faults.

        `units` says in which unit a number stands that is no text (those of phenopackets).
        """
        faults: list[AttributeFault] = [
            AttributeFault(attribute=name, reason=_ABSENT)
            for name in self._required
            if name not in eav
        ]
        typed: dict[str, EavValue] = {}
        for name, value in eav.items():
            known = self._known.get(name)
            if known is None:
                typed[name] = value
                continue
            # Most values have been read before; numbers and truths are not told apart by a key.
            one = value[0] if type(value) is tuple and len(value) == 1 else value
            found = known.get(one) if type(one) is str else None
            if found is None:
                found = self._read(self._schemas[name], value, (units or {}).get(name))
                if type(one) is str:
                    if len(known) >= _REMEMBERED:
                        known.clear()
                    known[one] = found
            if isinstance(found, Fault):
                faults.append(AttributeFault(attribute=name, reason=found.reason))
            else:
                typed[name] = found
        return typed, tuple(faults)

    def _read(self, schema: AttributeSchema, value: EavValue, unit: str | None) -> EavValue | Fault:
        of = schema.value_type
        made: list[Scalar] = []
        for each in value if isinstance(value, tuple) else (value,):
            found: tuple[Scalar, ...] | Fault
            if isinstance(each, str):
                found = read_value(of, each)
            else:
                one = converted_one(each, unit, item_type(of))
                found = one if isinstance(one, Fault) else (one,)
            if isinstance(found, Fault):
                return found
            made.extend(found)
        return together(of, made) if made else Fault("there is no value")


def refusals_of(
    faults: Sequence[AttributeFault], line: int, place: str | None = None, *, kept: bool
) -> tuple[Refusal, ...]:
    """Return a report for each fault of a row, or of what stands at a place of another file."""
    told = _KEPT if kept else ""
    return tuple(
        Refusal(
            line=line,
            reason=f"{fault.attribute}: {fault.reason}{told}",
            attribute=fault.attribute,
            place=place,
            kept=kept,
        )
        for fault in faults
    )


def fed_by(pipeline: RemapPipeline, header: Sequence[str]) -> frozenset[str]:
    """Return the attributes that a pipeline makes of a table's columns, whatever the cells say.

    Those that a cell names itself, as in a table of attributes and values, are not among them.
    """
    fed: set[str] = set()
    for directive in pipeline.directives:
        if directive.destination != "eav" or directive.origin not in header:
            continue
        qualifiers = [
            given.qualifier_replacement
            for given in directive.pattern_sets
            if isinstance(given, QualifierPattern)
        ]
        if len(qualifiers) < max(1, len(directive.pattern_sets)):
            fed.add(attribute_name(directive.origin))
        fed.update(attribute_name(name) for name in qualifiers if "\\" not in name)
    return frozenset(fed)
