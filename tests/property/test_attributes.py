"""Whatever is read, converted or inferred: no value ever stands outside its type.

Three of four cases are drawn to fit, so that most give a value (`--hypothesis-show-statistics`).
"""

import json

import jsonschema
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

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
    StringType,
    check_type,
)
from cvf_app.pipelines.checking import Checker
from cvf_app.pipelines.outline import infer, json_schema
from cvf_app.pipelines.units import converted
from cvf_app.pipelines.values import Fault, convert, fits, read_value
from cvf_app.subject import EavValue
from cvf_app.wire import decode, encode

WORDS = st.text("abcXYZ 0123456789-.:éß", min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
WHOLE = st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
REAL = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes().map(lambda moment: moment.isoformat())
ZONED = st.tuples(MOMENTS, st.sampled_from(["Z", "+02:00", "-11:30"])).map("".join)
NUMBERS = st.one_of(WHOLE, st.integers(-2, 200), REAL, st.sampled_from([0.0, 1.0, -0.0, 37.5]))
TEXTS = st.one_of(
    WORDS,
    MOMENTS,
    ZONED,
    NUMBERS.map(str),
    st.sampled_from(["true", "No", "1", "70 kg", "154 lb", "98,6 °F", "1,234", "", " ", "007"]),
    st.text(max_size=8),
)


@st.composite
def ranges(draw, kind, bounds):
    low, high = sorted((draw(bounds), draw(bounds)))
    return kind(
        minimum=draw(st.sampled_from([None, low])), maximum=draw(st.sampled_from([None, high]))
    )


SCALARS = st.one_of(
    ranges(IntegerType, st.one_of(WHOLE, st.integers(-2, 200))),
    ranges(DecimalType, st.floats(-1e6, 1e6)),
    st.sampled_from([DecimalType(unit="kg"), DecimalType(unit="°C", minimum=20)]),
    st.builds(
        StringType,
        max_length=st.sampled_from([None, 1, 5]),
        pattern=st.sampled_from([None, "[a-z]+", "[0-9.]*"]),
    ),
    st.just(BooleanType()),
    st.just(DateTimeType()),
    st.lists(st.one_of(WORDS, st.sampled_from(["1", "true", "37.5"])), min_size=1, unique=True).map(
        lambda options: ChoiceType(options=tuple(options))
    ),
)
TYPES = st.one_of(
    SCALARS,
    st.builds(ListType, items=SCALARS, separator=st.sampled_from([None, ";", ".", "-"])),
)
STORED = st.one_of(TEXTS, NUMBERS, st.booleans())
VALUES = st.one_of(STORED, st.lists(STORED, min_size=2, max_size=4).map(tuple))


def likely(of: AttributeType) -> st.SearchStrategy:
    """Draw stored values that are probably of a type."""
    match of:
        case IntegerType(minimum=low, maximum=high) | DecimalType(minimum=low, maximum=high):
            least = (-50 if high is None else high - 50) if low is None else low
            most = (200 if low is None else low + 50) if high is None else high
            found = (st.integers if isinstance(of, IntegerType) else st.floats)(least, most)
        case StringType(pattern=pattern):
            found = st.sampled_from(["a", "b"] if pattern == "[a-z]+" else ["7", "0.5"])
        case BooleanType():
            found = st.one_of(st.booleans(), st.sampled_from(["yes", "0", "True", 1]))
        case DateTimeType():
            found = st.one_of(MOMENTS, ZONED)
        case ChoiceType(options=options):
            found = st.sampled_from(options)
        case ListType(items=items):
            found = likely(items)
    return found


@st.composite
def pairs(draw, types, others):
    """Draw a type, and a value that is of it in about every second case."""
    of = draw(types)
    return of, draw(likely(of) if draw(st.integers(0, 3)) else others)


READ = pairs(TYPES, TEXTS).map(lambda pair: (pair[0], str(pair[1])))
CONVERTED = pairs(TYPES, VALUES)
SINGLE = pairs(SCALARS, STORED)


def conforms(of: AttributeType, value: EavValue) -> None:
    """Hold a value to its type, to its JSON Schema and to what a store makes of it."""
    assert fits(value, of)
    schema = json_schema([AttributeSchema(name="a", required=True, value_type=of)])
    jsonschema.Draft202012Validator(schema).validate({"a": json.loads(encode(value))})
    assert encode(decode(encode(value), EavValue)) == encode(value)


class TestRead:
    @settings(max_examples=300, deadline=None)
    @given(READ)
    def test_never_gives_a_value_outside_its_type(self, drawn) -> None:
        of, text = drawn
        check_type(of, "$")
        found = read_value(of, text)
        event(type(found).__name__)
        if isinstance(found, Fault):
            assert found.reason
            return
        conforms(of, found)
        for each in found:
            assert convert(each, of, of) == each

    @settings(max_examples=200, deadline=None)
    @given(READ, st.sampled_from(["refuse", "flag"]))
    def test_what_a_row_keeps_conforms_and_the_rest_is_told(self, drawn, mismatch) -> None:
        of, text = drawn
        checker = Checker([AttributeSchema(name="a", value_type=of)], mismatch)
        typed, faults = checker.checked({"a": text, "b": text})
        assert typed["b"] == text
        assert ("a" in typed) is not bool(faults)
        if "a" in typed:
            conforms(of, typed["a"])
        assert checker.checked({"a": text, "b": text}) == (typed, faults)


class TestConvert:
    @settings(max_examples=400, deadline=None)
    @given(CONVERTED)
    def test_never_gives_a_value_outside_its_type(self, drawn) -> None:
        into, value = drawn
        found = convert(value, None, into)
        event(type(found).__name__)
        if isinstance(found, Fault):
            assert found.reason
            return
        conforms(into, found)
        assert encode(convert(found, into, into)) == encode(found)

    @settings(max_examples=300, deadline=None)
    @given(SINGLE)
    def test_to_text_and_back_is_the_same(self, drawn) -> None:
        of, value = drawn
        stored = convert(value, None, of)
        assume(not isinstance(stored, Fault))
        text = convert(stored, of, StringType())
        assert isinstance(text, str)
        assert encode(convert(text, StringType(), of)) == encode(stored)

    @settings(max_examples=200, deadline=None)
    @given(SINGLE)
    def test_to_a_list_and_back_is_the_same(self, drawn) -> None:
        of, value = drawn
        stored = convert(value, None, of)
        assume(not isinstance(stored, Fault))
        listed = convert(stored, of, ListType(items=of))
        assert encode(convert(listed, ListType(items=of), of)) == encode(stored)

    @settings(deadline=None)
    @given(WHOLE)
    def test_a_whole_number_survives_as_a_decimal(self, number: int) -> None:
        decimal = convert(number, IntegerType(), DecimalType())
        assert isinstance(decimal, float)
        assert convert(decimal, DecimalType(), IntegerType()) == number

    @settings(deadline=None)
    @given(
        st.decimals(-1000, 1000, places=3).map(float),
        st.sampled_from([("kg", "lb"), ("°C", "°F"), ("mg/dL", "g/L"), ("cm", "in"), ("K", "°C")]),
    )
    def test_another_unit_and_back_is_the_same(self, number: float, pair: tuple[str, str]) -> None:
        there = converted(number, *pair)
        assert there is not None
        back = converted(there, *reversed(pair))
        assert back is not None
        assert abs(back - number) <= 5e-9


class TestInfer:
    @settings(max_examples=200, deadline=None)
    @given(
        st.one_of(
            *(st.lists(kind, min_size=1, max_size=30) for kind in (WHOLE, NUMBERS, WORDS, ZONED)),
            st.lists(VALUES, min_size=1, max_size=6),
        )
    )
    def test_every_value_converts_to_the_inferred_type(self, values: list[EavValue]) -> None:
        of = infer(values)
        assert of is not None
        check_type(of, "$")
        for value in values:
            blank = isinstance(value, str) and value != value.strip()
            assert blank or not isinstance(convert(value, of, of), Fault)
