"""What attributes look like from outside: types inferred from values, and a JSON Schema.

Pure. The JSON Schema (2020-12) is that of the `EAV` object of a subject: a query builder reads from
it which comparisons an attribute takes. Units stand under `x-unit`, an annotation of ours.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from cvf_app.pipelines.attributes import (
    LARGEST_INTEGER,
    AttributeSchema,
    AttributeType,
    BooleanType,
    ChoiceType,
    DateTimeType,
    DecimalType,
    IntegerType,
    ListType,
    ScalarType,
    StringType,
)
from cvf_app.pipelines.values import fits
from cvf_app.subject import EavValue, Scalar

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MOST_INFERRED_OPTIONS = 20
_LONGEST_OPTION = 100
_ANY: dict[str, Any] = {"type": ["string", "number", "boolean"]}


def infer(values: Iterable[EavValue]) -> AttributeType | None:
    """Return the narrowest type that holds all values; None when there are no values.

    Numbers get the range that was seen; a few short texts are a choice, if there are others to
    choose from; a value of several makes a list. Values of mixed types are texts.
    """
    seen: dict[tuple[type, Scalar], Scalar] = {}
    several = False
    for value in values:
        if isinstance(value, tuple):
            several = True
            seen.update({(type(each), each): each for each in value})
        else:
            seen[type(value), value] = value
    if not seen:
        return None
    one = _infer_scalar(tuple(seen.values()))
    return ListType(items=one) if several else one


def json_schema(schemas: Sequence[AttributeSchema], *, title: str = "") -> dict[str, Any]:
    """Return the JSON Schema of the attributes of one subject; others may hold any scalar."""
    return {
        "$schema": DIALECT,
        **({"title": title} if title else {}),
        "type": "object",
        "properties": {schema.name: _property(schema) for schema in schemas},
        "required": [schema.name for schema in schemas if schema.required],
        "additionalProperties": _one_or_more(_ANY),
    }


def _infer_scalar(values: tuple[Scalar, ...]) -> ScalarType:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return BooleanType()
    if kinds <= {int, float}:
        return _infer_number([value for value in values if not isinstance(value, str)])
    texts = [value for value in values if isinstance(value, str)]
    return StringType() if len(texts) < len(values) else _infer_text(texts)


def _infer_number(numbers: list[int | float]) -> IntegerType | DecimalType:
    low, high = min(numbers), max(numbers)
    whole = all(isinstance(number, int) for number in numbers)
    if whole and max(abs(low), abs(high)) <= LARGEST_INTEGER:
        return IntegerType(minimum=int(low), maximum=int(high))
    return DecimalType(minimum=float(low), maximum=float(high))


def _infer_text(texts: list[str]) -> DateTimeType | ChoiceType | StringType:
    if all(fits(text, DateTimeType()) for text in texts):
        return DateTimeType()
    few = 1 < len(texts) <= MOST_INFERRED_OPTIONS
    if few and all(text == text.strip() and 0 < len(text) <= _LONGEST_OPTION for text in texts):
        return ChoiceType(options=tuple(sorted(texts)))
    return StringType()


def _property(schema: AttributeSchema) -> dict[str, Any]:
    of = schema.value_type
    one = _scalar(of.items if isinstance(of, ListType) else of)
    told = {"title": schema.display_name, "description": schema.description}
    unit = {"x-unit": one.pop("x-unit")} if "x-unit" in one else {}
    return {**{name: text for name, text in told.items() if text}, **unit, **_one_or_more(one)}


def _one_or_more(one: dict[str, Any]) -> dict[str, Any]:
    """Allow several values: those of several rows or files of one subject stand together."""
    several = {"type": "array", "items": one, "minItems": 1}
    return {"oneOf": [one, several]}


def _scalar(of: ScalarType) -> dict[str, Any]:
    match of:
        case IntegerType():
            return {"type": "integer", **_range(of.minimum, of.maximum)}
        case DecimalType():
            unit = {"x-unit": of.unit} if of.unit else {}
            return {"type": "number", **_range(of.minimum, of.maximum), **unit}
        case StringType():
            length = {} if of.max_length is None else {"maxLength": of.max_length}
            pattern = {} if of.pattern is None else {"pattern": f"^(?:{of.pattern})$"}
            return {"type": "string", **length, **pattern}
        case BooleanType():
            return {"type": "boolean"}
        case ChoiceType():
            return {"type": "string", "enum": list(of.options)}
        case DateTimeType():
            return {"type": "string", "format": "date-time"}


def _range(minimum: float | None, maximum: float | None) -> dict[str, Any]:
    bounds = {"minimum": minimum, "maximum": maximum}
    return {name: bound for name, bound in bounds.items() if bound is not None}
