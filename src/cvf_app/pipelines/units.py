"""Units of measurement: whether a text is one, and numbers from one unit to another.

Pure. Pint knows the units; loading it takes most of a second, so this module is imported only
where a unit has to be read, in a child process. What is asked twice is remembered: a conversion is
a factor and an offset per pair of units. Texts are held to a narrow form before pint sees them,
since it would compute `9**9**9`. Codes of UCUM that pint spells otherwise are translated.
"""

import math
import re
from functools import cache, lru_cache
from typing import Any

import pint
from pint.errors import PintError

LONGEST_UNIT = 40
DIGITS = 12
"""Significant digits that a converted number keeps, so that 154 lb and back is 154 lb."""
DECIMALS = 9
"""Decimals that a converted temperature keeps."""
_NAME = r"(?:[^\W\d_][^\W\d]{0,29}|[%°‰][^\W\d_]{0,12}|1)"
_POWER = r"(?:(?:\^|\*\*)?-?[1-9]|[⁻]?[¹²³⁴-⁹])"
_FACTOR = rf"(?:10(?:\^|\*)[0-9]{{1,2}}|{_NAME}{_POWER}?)"
_UNIT = re.compile(rf"{_FACTOR}(?: ?[*/·. ] ?{_FACTOR}){{0,5}}")
_TEN = re.compile(r"10(?:\^|\*)([0-9]{1,2})")
_UCUM = {
    "mm[Hg]": "mmHg",
    "mm Hg": "mmHg",
    "cm[H2O]": "cmH2O",
    "Cel": "degC",
    "[degF]": "degF",
    "[lb_av]": "lb",
    "[oz_av]": "oz",
    "[in_i]": "inch",
    "[ft_i]": "foot",
    "[IU]": "IU",
    "‰": "permille",
    # Temperatures are often written by their letter; farad and coulomb are not of this field.
    "F": "degF",
    "C": "degC",
}
_OWN = ("international_unit = [biological_activity] = IU", "cell = [] = cells")


def is_unit(text: str) -> bool:
    """Say whether a text is a unit."""
    return converter(text, text) is not None


def converted(value: float, unit: str, into: str) -> float | None:
    """Return a number in another unit, or nothing when the units do not fit together."""
    convert = converter(unit, into)
    if convert is None:
        return None
    factor, offset = convert
    result = value * factor + offset
    if not math.isfinite(result):
        return None
    # Near the zero of another scale of temperature no digit of the difference is worth keeping.
    return round(result, DECIMALS) + 0.0 if offset else float(f"{result:.{DIGITS}g}")


@lru_cache(maxsize=10_000)
def converter(unit: str, into: str) -> tuple[float, float] | None:
    """Return the factor and the offset from one unit to another, if there are such."""
    scale, one = _read(unit)
    target, other = _read(into)
    if one is None or other is None:
        return None
    try:
        at = [_registry().Quantity(x, one).to(other).magnitude for x in (0.0, 1e3, 2e3)]
    except (PintError, ArithmeticError, ValueError, TypeError):
        return None
    step, offset = at[1] - at[0], at[0]
    # A logarithmic unit, as decibels, has no factor.
    if not (math.isfinite(step) and step) or not math.isclose(at[2] - at[1], step, rel_tol=1e-9):
        return None
    factor = step / 1e3
    return factor * scale / target, offset / target


def _read(text: str) -> tuple[float, Any]:
    """Return the power of ten that stands in a unit, and the rest as pint reads it."""
    text = re.sub(r"\s+", " ", text.strip())
    if len(text) > LONGEST_UNIT:
        return 1.0, None
    for theirs, ours in _UCUM.items():
        if theirs in text:
            text = re.sub(rf"(?<![\w\[°]){re.escape(theirs)}(?![\w\]])", ours, text)
    if not _UNIT.fullmatch(text):
        return 1.0, None
    scale = 1.0
    for position, found in enumerate(_TEN.finditer(text)):
        if position or found.start():
            return 1.0, None
        scale = 10.0 ** int(found[1])
    text = _TEN.sub("1", text).replace("·", "*").replace(".", "*")
    try:
        return scale, _registry().parse_units(text)
    except (PintError, ArithmeticError, ValueError, TypeError, AttributeError):
        return 1.0, None


@cache
def _registry() -> Any:  # noqa: ANN401 - pint's registry is generic in types that are not public
    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    for line in _OWN:
        registry.define(line)
    return registry
