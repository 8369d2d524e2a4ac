"""Values of declared attributes: read from texts, converted when a declaration changes.

Pure. `read_value` follows the rules that `attributes` states. `convert` turns a stored value into
one of another type; it never guesses and never rounds, and what it cannot do is a fault:

| stored | integer | decimal | string | boolean | choice | date-time |
| --- | --- | --- | --- | --- | --- | --- |
| integer | the same | the same number | its digits | 0 and 1 alone | as its text | never |
| decimal | if whole | the same, in the new unit | its text | 0 and 1 alone | as its text | never |
| text | as read | as read | the same | as read | as read | as read |
| boolean | 1 or 0 | 1.0 or 0.0 | `true`, `false` | the same | as its text | never |

A choice and a date-time are stored as texts and follow that line. The values of a list are
converted one by one, and a single value is a list of one; a list, and what was not declared,
becomes a single value only when it holds one. (One row gives one value, or a list; a subject whose
rows or files give different values has them all, and each is converted.)
A number keeps its value when its unit is declared for the first time or no more.
In the end the new range, length, pattern and options are asked as for any imported value.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cvf_app.pipelines.attributes import (
    LARGEST_INTEGER,
    AttributeType,
    BooleanType,
    ChoiceType,
    DateTimeType,
    DecimalType,
    IntegerType,
    ListType,
    ScalarType,
    StringType,
    item_type,
)
from cvf_app.pipelines.merge import one_or_all
from cvf_app.pipelines.patterns import compile_pattern
from cvf_app.subject import EavValue, Scalar

_SHOWN = 60
_OPTIONS_SHOWN = 5
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,14})")
_DECIMAL = re.compile(
    r"([+-]?)(0|[1-9][0-9]{0,19})?(?:([.,])([0-9]{1,30}))?(?:[eE]([+-]?[0-9]{1,3}))?\s*(\D.*)?",
    re.DOTALL,
)
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?)"
    r"\s?([Zz]|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_THOUSAND = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a text or a value is none of its attribute."""

    reason: str


Reader = Callable[[str], Scalar | Fault]


def convert(value: EavValue, was: AttributeType | None, becomes: AttributeType) -> EavValue | Fault:
    """Turn a stored value into one of another type by the rules of this module's table.

    `was` is None where nothing was declared: then the value itself says what it is.
    """
    values = value if isinstance(value, tuple) else (value,)
    unit = _unit(was)
    single = was is None or isinstance(was, ListType)
    if single and len(values) > 1 and not isinstance(becomes, ListType):
        return _several(values)
    made: list[Scalar] = []
    for each in values:
        for cell in _split(becomes, each):
            one = converted_one(cell, unit, item_type(becomes))
            if isinstance(one, Fault):
                return one
            made.append(one)
    return _distinct(made) if made else Fault("there is no value")


def fits(value: EavValue, of: AttributeType) -> bool:
    """Say whether a stored value is one of this type as it stands."""
    values = value if isinstance(value, tuple) else (value,)
    for each in values:
        found = converted_one(each, _unit(of), item_type(of))
        if type(found) is not type(each) or found != each:
            return False
    return bool(values)


def together(of: AttributeType, values: Sequence[Scalar]) -> EavValue | Fault:
    """Return the distinct values that one row gives: several are a fault unless it is a list."""
    distinct = values[0] if len(values) == 1 else _distinct(values)
    if isinstance(distinct, tuple) and not isinstance(of, ListType):
        return _several(distinct)
    return distinct


def read_value(of: AttributeType, text: str) -> tuple[Scalar, ...] | Fault:
    """Read all values that the text of one cell holds."""
    read = _reader(item_type(of))
    made: list[Scalar] = []
    for cell in _cells(of, text):
        found = read(cell)
        if isinstance(found, Fault):
            return found
        made.append(found)
    return tuple(made) if made else Fault("there is no value")


def _cells(of: AttributeType, text: str) -> tuple[str, ...]:
    if not isinstance(of, ListType) or of.separator is None:
        return (text.strip(),)
    return tuple(cell for part in text.split(of.separator) if (cell := part.strip()))


def _split(of: AttributeType, value: Scalar) -> tuple[Scalar, ...]:
    """Return what stands between separators, if the value is a text or becomes one."""
    if isinstance(value, str):
        return _cells(of, value)
    becomes_text = isinstance(item_type(of), StringType | ChoiceType)
    return _cells(of, _text(value)) if becomes_text else (value,)


def converted_one(  # noqa: PLR0911 - one line of the table each
    value: Scalar, unit: str | None, into: ScalarType
) -> Scalar | Fault:
    """Convert one value; `unit` is that of a number."""
    if isinstance(value, str):
        return _reader(into)(value)
    if isinstance(value, float) and not math.isfinite(value):
        return Fault("this is no number that can be kept")
    match into:
        case IntegerType():
            whole = isinstance(value, int) or value.is_integer()
            return _integer(into, int(value)) if whole else Fault(f"{value} is not whole")
        case DecimalType():
            return _decimal(into, float(value), None if isinstance(value, bool) else unit)
        case BooleanType():
            return bool(value) if value in (0, 1) else Fault(f"{value} is neither 0 nor 1")
        case StringType() | ChoiceType():
            return _reader(into)(_text(value))
        case DateTimeType():
            return Fault(f"{_text(value)} is no date")


def _text(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=4096)
def _reader(of: ScalarType) -> Reader:
    """Return what reads texts of a type."""
    match of:
        case IntegerType():
            return lambda text: _read_integer(of, text)
        case DecimalType():
            return lambda text: _read_decimal(of, text)
        case StringType():
            return _string_reader(of)
        case BooleanType():
            return _read_boolean
        case ChoiceType():
            return _choice_reader(of)
        case DateTimeType():
            return _read_moment


def _read_integer(of: IntegerType, text: str) -> Scalar | Fault:
    if not _INTEGER.fullmatch(text):
        return Fault(f"{_quoted(text)} is no whole number")
    return _integer(of, int(text))


def _integer(of: IntegerType, value: int) -> Scalar | Fault:
    if abs(value) > LARGEST_INTEGER:
        return Fault(f"{value} has more than 15 digits")
    return _outside(value, of.minimum, of.maximum) or value


def _read_decimal(of: DecimalType, text: str) -> Scalar | Fault:
    found = _DECIMAL.fullmatch(text)
    if found is None or (found[2] is None and found[4] is None):
        return Fault(f"{_quoted(text)} is no number")
    sign, whole, point, decimals, power, unit = found.groups()
    if point == "," and len(decimals) == _THOUSAND and whole not in (None, "0"):
        return Fault(
            f"{_quoted(text)} can be read in two ways; write thousands without a comma and"
            " decimals after a point"
        )
    if unit is not None and of.unit is None:
        return Fault(f"{_quoted(text)} is no number, and no unit is declared")
    number = float(f"{sign}{whole or '0'}.{decimals or '0'}e{power or '0'}")
    return _decimal(of, number, unit)


def _decimal(of: DecimalType, value: float, unit: str | None) -> Scalar | Fault:
    """Return a number in the declared unit, if it is in the range."""
    if unit is not None and of.unit is not None and unit.strip() != of.unit.strip():
        # Pint takes most of a second to load: only who meets a unit pays for it.
        from cvf_app.pipelines.units import converted  # noqa: PLC0415 - see above

        number = converted(value, unit, of.unit)
        if number is None:
            told = _quoted(f"{value:g} {unit}")
            return Fault(f"{told} is in no unit that can be converted to {of.unit}")
        value = number
    if not math.isfinite(value):
        return Fault("this number is too large")
    return _outside(value, of.minimum, of.maximum) or value


def _outside(value: float, minimum: float | None, maximum: float | None) -> Fault | None:
    if minimum is not None and value < minimum:
        return Fault(f"{value:.15g} is below {minimum:.15g}")
    if maximum is not None and value > maximum:
        return Fault(f"{value:.15g} is above {maximum:.15g}")
    return None


def _string_reader(of: StringType) -> Reader:
    pattern = None if of.pattern is None else compile_pattern(of.pattern, "$.pattern")
    longest = of.max_length

    def read(text: str) -> Scalar | Fault:
        if longest is not None and len(text) > longest:
            return Fault(f"{_quoted(text)} has {len(text)} characters, more than {longest}")
        if pattern is not None and pattern.fullmatch(text) is None:
            return Fault(f"{_quoted(text)} does not match {of.pattern}")
        return text

    return read


def _read_boolean(text: str) -> Scalar | Fault:
    found = _TRUTH.get(text.lower())
    return Fault(f"{_quoted(text)} is neither true nor false") if found is None else found


def _choice_reader(of: ChoiceType) -> Reader:
    options = frozenset(of.options)
    shown = ", ".join(of.options[:_OPTIONS_SHOWN]) + (
        ", …" if len(of.options) > _OPTIONS_SHOWN else ""
    )

    def read(text: str) -> Scalar | Fault:
        return text if text in options else Fault(f"{_quoted(text)} is none of {shown}")

    return read


def _read_moment(text: str) -> Scalar | Fault:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return Fault(f"{_quoted(text)} is no date as in 2024-05-01 or 2024-05-01T13:30:00Z")
    day, time, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time or '00:00'}{(zone or 'Z').upper()}")
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return Fault(f"{_quoted(text)} is no day of the calendar")


def _unit(of: AttributeType | None) -> str | None:
    one = None if of is None else item_type(of)
    return one.unit if isinstance(one, DecimalType) else None


def _distinct(values: Sequence[Scalar]) -> EavValue:
    return one_or_all(tuple({(type(value), value): value for value in values}.values()))


def _several(values: Sequence[Scalar]) -> Fault:
    shown = (value if isinstance(value, str) else _text(value) for value in values[:2])
    return Fault(f"{len(values)} values where one is declared: {', '.join(map(_quoted, shown))}")


def _quoted(text: str) -> str:
    return f"“{text}”" if len(text) <= _SHOWN else f"“{text[:_SHOWN]}…”"
