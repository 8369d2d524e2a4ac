"""What an attribute of a source's subjects may hold: schemas, their check, and texts as values.

Pure. Stored values stay what they were: whole numbers, decimals, texts and truth values; a
date-time is a text in ISO 8601 and UTC, a choice the text of its option. Rules of reading:

- integer: digits with an optional sign; `007` is a code and refused, as is `139.0`.
- decimal: a point or a comma before the decimals; `1,234` can be read in two ways and is refused.
  A unit may follow where one is declared, and is converted to it; a bare number is taken in it.
- boolean: true and false, yes and no, 1 and 0, in any case.
- choice: one of the options, letter by letter.
- date-time: `2024-05-01`, `2024-05-01T13:30`, with seconds and `Z` or `+02:00`; without a zone it
  is taken in UTC.
- list: several of one of these; with a separator one cell may hold several.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from cvf_app.errors import Invalid
from cvf_app.pipelines.patterns import compile_pattern
from cvf_app.wire import Wire

Mismatch = Literal["refuse", "flag"]
LARGEST_INTEGER = 10**15 - 1
"""Whole numbers up to here are exact wherever they are compared."""
MOST_SCHEMAS = 2000
MOST_OPTIONS = 1000
LONGEST_NAME = 500
LONGEST_DESCRIPTION = 2000
LONGEST_SEPARATOR = 5
LONGEST_UNIT = 40
_UNSAFE = re.compile(r"[.$/\\\x00-\x1f\x7f]")


class IntegerType(Wire, frozen=True, kw_only=True, tag_field="type", tag="integer"):
    """Whole numbers of at most 15 digits; both bounds belong to the range."""

    minimum: int | None = None
    maximum: int | None = None


class DecimalType(Wire, frozen=True, kw_only=True, tag_field="type", tag="decimal"):
    """Numbers, in a unit if one is declared; both bounds belong to the range."""

    minimum: float | None = None
    maximum: float | None = None
    unit: str | None = None


class StringType(Wire, frozen=True, kw_only=True, tag_field="type", tag="string"):
    """Texts of at most so many characters; the pattern (RE2) is that of the whole text."""

    max_length: int | None = None
    pattern: str | None = None


class BooleanType(Wire, frozen=True, kw_only=True, tag_field="type", tag="boolean"):
    """True or false."""


class ChoiceType(Wire, frozen=True, kw_only=True, tag_field="type", tag="choice"):
    """One of a few texts."""

    options: tuple[str, ...]


class DateTimeType(Wire, frozen=True, kw_only=True, tag_field="type", tag="dateTime"):
    """A moment, kept in UTC."""


ScalarType = IntegerType | DecimalType | StringType | BooleanType | ChoiceType | DateTimeType


class ListType(Wire, frozen=True, kw_only=True, tag_field="type", tag="list"):
    """Several values of one type; a separator cuts a cell that holds several."""

    items: ScalarType
    separator: str | None = None


AttributeType = ScalarType | ListType


class AttributeSchema(Wire, frozen=True, kw_only=True):
    """What one attribute of a source holds, under the name that subjects keep it by.

    A required one must be in every row of a table that feeds it, and in every phenopacket.
    """

    name: str
    display_name: str = ""
    description: str = ""
    required: bool = False
    value_type: AttributeType


class AttributeFault(Wire, frozen=True, kw_only=True):
    """Which attribute does not hold what it should, and why not."""

    attribute: str
    reason: str


class Units(Wire, frozen=True, kw_only=True):
    """Units to be looked at, each with the place of the schema that declares it."""

    units: tuple[tuple[int, str], ...]


class Looked(Wire, frozen=True, kw_only=True):
    """How many units were looked at; all are known."""

    count: int


def check_units(task: Units, _: Callable[[float], None]) -> Looked:
    """Look at declared units, in a child process.

    Raises:
        Invalid: one is no unit; the path says which.
    """
    # Pint takes most of a second to load, which no process that answers requests can spare.
    from cvf_app.pipelines.units import is_unit  # noqa: PLC0415 - see above

    for place, unit in task.units:
        if not is_unit(unit):
            raise Invalid(
                f"“{unit}” is no unit that can be converted; write it as in kg, mg/dL or °C.",
                path=f"$.attributes[{place}].valueType.unit",
            )
    return Looked(count=len(task.units))


def check_schemas(schemas: Sequence[AttributeSchema]) -> None:
    """Make sure that schemas can be kept; units are looked at by `check_units`.

    Raises:
        Invalid: one contradicts itself, or two have one name; the path says where.
    """
    if len(schemas) > MOST_SCHEMAS:
        raise Invalid(f"At most {MOST_SCHEMAS} attributes are declared.", path="$.attributes")
    seen: set[str] = set()
    for place, schema in enumerate(schemas):
        path = f"$.attributes[{place}]"
        _check_name(schema.name, f"{path}.name")
        if schema.name in seen:
            raise Invalid(f"“{schema.name}” is declared twice.", path=f"{path}.name")
        seen.add(schema.name)
        _check_length(schema.display_name, LONGEST_NAME, f"{path}.displayName")
        _check_length(schema.description, LONGEST_DESCRIPTION, f"{path}.description")
        check_type(schema.value_type, f"{path}.valueType")


def check_type(given: AttributeType, path: str) -> None:
    """Make sure that a type can hold something.

    Raises:
        Invalid: it cannot; the path says where.
    """
    match given:
        case IntegerType():
            _check_integers(given, path)
            _check_range(given.minimum, given.maximum, path)
        case DecimalType():
            _check_range(given.minimum, given.maximum, path)
            if given.unit is not None and not 0 < len(given.unit.strip()) <= LONGEST_UNIT:
                raise Invalid(f"A unit has 1 to {LONGEST_UNIT} characters.", path=f"{path}.unit")
        case StringType():
            if given.max_length is not None and given.max_length < 1:
                raise Invalid("A text has at least one character.", path=f"{path}.maxLength")
            if given.pattern is not None:
                compile_pattern(given.pattern, f"{path}.pattern")
        case ChoiceType():
            _check_options(given.options, f"{path}.options")
        case ListType():
            _check_separator(given.separator, f"{path}.separator")
            check_type(given.items, f"{path}.items")
        case BooleanType() | DateTimeType():
            pass


def merged(
    old: Sequence[AttributeSchema], new: Sequence[AttributeSchema], removed: Iterable[str]
) -> tuple[AttributeSchema, ...]:
    """Return schemas after a change: those of one name are replaced, new ones come last.

    Removing what is not declared changes nothing, so that a change may be made twice.
    """
    all_of = {schema.name: schema for schema in old}
    for name in removed:
        all_of.pop(name, None)
    all_of.update({schema.name: schema for schema in new})
    return tuple(all_of.values())


def check_removed(
    old: Sequence[AttributeSchema], new: Sequence[AttributeSchema], removed: Sequence[str]
) -> None:
    """Make sure that what is to be removed is declared, and not declared anew.

    Raises:
        Invalid: it is not; the path says which.
    """
    before, fresh = ({schema.name for schema in schemas} for schemas in (old, new))
    for place, name in enumerate(removed):
        if name in fresh:
            raise Invalid(f"“{name}” is declared and removed at once.", path=f"$.removed[{place}]")
        if name not in before:
            raise Invalid(f"“{name}” is not declared.", path=f"$.removed[{place}]")


def units_of(schemas: Iterable[AttributeSchema]) -> tuple[tuple[int, str], ...]:
    """Return the declared units, each with the place of its schema."""
    found = ((place, item_type(schema.value_type)) for place, schema in enumerate(schemas))
    return tuple((place, of.unit) for place, of in found if isinstance(of, DecimalType) and of.unit)


def item_type(of: AttributeType) -> ScalarType:
    """Return the type of each single value."""
    return of.items if isinstance(of, ListType) else of


def _check_name(name: str, path: str) -> None:
    if not name or name != name.strip():
        raise Invalid("An attribute has a name without blanks around it.", path=path)
    _check_length(name, LONGEST_NAME, path)
    if _UNSAFE.search(name):
        raise Invalid(
            "Subjects keep `_` in place of `.`, `$`, `/` and `\\`: write the name with it.",
            path=path,
        )


def _check_length(text: str, longest: int, path: str) -> None:
    if len(text) > longest:
        raise Invalid(f"At most {longest} characters are kept here.", path=path)


def _check_integers(given: IntegerType, path: str) -> None:
    for name, bound in (("minimum", given.minimum), ("maximum", given.maximum)):
        if bound is not None and abs(bound) > LARGEST_INTEGER:
            raise Invalid("A whole number has at most 15 digits.", path=f"{path}.{name}")


def _check_separator(separator: str | None, path: str) -> None:
    if separator is None:
        return
    seen = separator.strip() and not any(each.isalnum() for each in separator)
    if not seen or len(separator) > LONGEST_SEPARATOR:
        raise Invalid(
            f"A separator has 1 to {LONGEST_SEPARATOR} characters, no letters or digits.", path=path
        )


def _check_range(minimum: float | None, maximum: float | None, path: str) -> None:
    for name, bound in (("minimum", minimum), ("maximum", maximum)):
        if bound is not None and not math.isfinite(bound):
            raise Invalid("A bound is a number.", path=f"{path}.{name}")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise Invalid("The range is empty: it ends before it begins.", path=f"{path}.maximum")


def _check_options(options: tuple[str, ...], path: str) -> None:
    if not 0 < len(options) <= MOST_OPTIONS:
        raise Invalid(f"A choice has 1 to {MOST_OPTIONS} options.", path=path)
    seen: set[str] = set()
    for place, option in enumerate(options):
        if not option or option != option.strip():
            raise Invalid("An option is a text without blanks around it.", path=f"{path}[{place}]")
        _check_length(option, LONGEST_NAME, f"{path}[{place}]")
        if option in seen:
            raise Invalid(f"“{option}” is there twice.", path=f"{path}[{place}]")
        seen.add(option)
