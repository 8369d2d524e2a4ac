"""Typed attributes: how each type reads, what becomes what, which declarations are refused."""

import re

import jsonschema
import pytest

from cvf_app.errors import Invalid
from cvf_app.pipelines.attributes import (
    AttributeSchema,
    AttributeType,
    BooleanType,
    ChoiceType,
    DateTimeType,
    DecimalType,
    IntegerType,
    ListType,
    StringType,
    Units,
    check_removed,
    check_schemas,
    check_units,
    merged,
    units_of,
)
from cvf_app.pipelines.outline import infer, json_schema
from cvf_app.pipelines.units import converted, converter
from cvf_app.pipelines.values import Fault, convert, read_value
from cvf_app.wire import convert as read_struct

AGE = IntegerType(minimum=0, maximum=120)
WEIGHT = DecimalType(unit="kg", minimum=0.5, maximum=300)
COLOUR = ChoiceType(options=("red", "blue"))


def schema(value_type: AttributeType, name: str = "a", **more) -> AttributeSchema:
    return AttributeSchema(name=name, value_type=value_type, **more)


class TestReading:
    @pytest.mark.parametrize(
        ("of", "text", "value"),
        [
            (AGE, "42", 42),
            (AGE, "+7", 7),
            (IntegerType(), "-0", 0),
            (IntegerType(), "999999999999999", 999999999999999),
            (DecimalType(), "1e3", 1000.0),
            (DecimalType(), "98,6", 98.6),
            (DecimalType(), "0,125", 0.125),
            (DecimalType(), ".5", 0.5),
            (WEIGHT, "70", 70.0),
            (WEIGHT, "70kg", 70.0),
            (WEIGHT, "154 lb", 69.85322498),
            (WEIGHT, "154 lbs", 69.85322498),
            (WEIGHT, "70000\u00a0g", 70.0),
            (WEIGHT, "7e1 kg", 70.0),
            (DecimalType(unit="°C"), "98,6 °F", 37.0),
            (DecimalType(unit="°C"), "98.6F", 37.0),
            (DecimalType(unit="°C"), "32 degF", 0.0),
            (DecimalType(unit="mg/dL"), "1 g/L", 100.0),
            (DecimalType(unit="10^9/L"), "5000 /uL", Fault),
            (DecimalType(unit="10^9/L"), "5000 1/uL", 5.0),
            (DecimalType(unit="mmHg"), "120 mm[Hg]", 120.0),
            (StringType(), "007", "007"),
            (StringType(pattern="[A-Z]+", max_length=3), "ABC", "ABC"),
            (BooleanType(), "YES", True),
            (BooleanType(), "0", False),
            (COLOUR, "red", "red"),
            (DateTimeType(), "2024-05-01", "2024-05-01T00:00:00Z"),
            (DateTimeType(), "2024-05-01 13:30", "2024-05-01T13:30:00Z"),
            (DateTimeType(), "2024-05-01T01:30:00+02:00", "2024-04-30T23:30:00Z"),
            (DateTimeType(), "2024-05-01T13:30:00.25z", "2024-05-01T13:30:00.250000Z"),
        ],
    )
    def test_a_text_is_read_as_declared(self, of, text, value) -> None:
        found = read_value(of, text)
        if value is Fault:
            assert isinstance(found, Fault)
            return
        assert found == (value,)
        assert type(found[0]) is type(value)

    @pytest.mark.parametrize(
        ("of", "text", "reason"),
        [
            (AGE, "139.0", "whole number"),
            (AGE, "007", "whole number"),
            (AGE, "1_000", "whole number"),
            (AGE, "٤٢", "whole number"),
            (AGE, "121", "121 is above 120"),
            (AGE, "-1", "-1 is below 0"),
            (IntegerType(), "1" * 16, "whole number"),
            (DecimalType(), "1,234", "two ways"),
            (DecimalType(), "1.234,5", "no number"),
            (DecimalType(), "70 kg", "no unit is declared"),
            (DecimalType(), "nan", "no number"),
            (DecimalType(), "1e999", "too large"),
            (DecimalType(), "", "no number"),
            (WEIGHT, "70 m", "cannot|no unit"),
            (WEIGHT, "70 " + "9**9" * 4, "no unit"),
            (WEIGHT, "400", "400 is above 300"),
            (WEIGHT, "900 lb", "above 300"),
            (StringType(max_length=2), "abc", "3 characters"),
            (StringType(pattern="[A-Z]+"), "aB", "does not match"),
            (BooleanType(), "maybe", "neither true nor false"),
            (COLOUR, "Red", "none of red, blue"),
            (DateTimeType(), "01.05.2024", "no date"),
            (DateTimeType(), "2024-02-30", "calendar"),
            (DateTimeType(), "0001-01-01T00:00:00+12:00", "calendar"),
            (DateTimeType(), "2024-05-01T24:00:00", "no date"),
        ],
    )
    def test_what_does_not_fit_says_why(self, of, text, reason) -> None:
        found = read_value(of, text)
        assert isinstance(found, Fault)
        assert re.search(reason, found.reason), found.reason

    def test_a_cell_holds_several_where_a_separator_is_declared(self) -> None:
        several = ListType(items=COLOUR, separator=";")
        assert read_value(several, "red; blue;;") == ("red", "blue")
        assert read_value(ListType(items=COLOUR), "red") == ("red",)
        assert isinstance(read_value(several, "red;green"), Fault)
        assert isinstance(read_value(several, ";"), Fault)

    def test_a_pattern_that_would_take_for_ever_does_not(self) -> None:
        found = read_value(StringType(pattern="(a+)+b"), "a" * 50_000)
        assert isinstance(found, Fault)


class TestConversion:
    @pytest.mark.parametrize(
        ("value", "was", "becomes", "result"),
        [
            (7, None, DecimalType(), 7.0),
            (7, None, StringType(), "7"),
            (1, None, BooleanType(), True),
            (7, None, BooleanType(), Fault),
            (7, None, ChoiceType(options=("7",)), "7"),
            (7, None, DateTimeType(), Fault),
            (7.0, None, IntegerType(), 7),
            (7.5, None, IntegerType(), Fault),
            (7.5, None, StringType(), "7.5"),
            (1e16, None, IntegerType(), Fault),
            ("7", None, IntegerType(), 7),
            ("seven", None, IntegerType(), Fault),
            ("2024-05-01", None, DateTimeType(), "2024-05-01T00:00:00Z"),
            (True, None, IntegerType(), 1),
            (True, None, DecimalType(), 1.0),
            (True, None, StringType(), "true"),
            (True, None, DateTimeType(), Fault),
            (70.0, WEIGHT, DecimalType(unit="g"), 70000.0),
            (70.0, WEIGHT, DecimalType(), 70.0),
            (70.0, DecimalType(), WEIGHT, 70.0),
            (70.0, WEIGHT, DecimalType(unit="m"), Fault),
            (70, None, WEIGHT, 70.0),
            ((1, 2), None, ListType(items=StringType()), ("1", "2")),
            ((1, 2), None, IntegerType(), Fault),
            ((1, 2), ListType(items=IntegerType()), IntegerType(), Fault),
            ((1, 2), IntegerType(), DecimalType(), (1.0, 2.0)),
            (1, IntegerType(), ListType(items=IntegerType()), 1),
            ("a;b", None, ListType(items=StringType(), separator=";"), ("a", "b")),
            (("1", "01"), StringType(), IntegerType(), Fault),
            ((1, 1.0), DecimalType(), DecimalType(), 1.0),
        ],
    )
    def test_the_table_of_rules(self, value, was, becomes, result) -> None:
        found = convert(value, was, becomes)
        if result is Fault:
            assert isinstance(found, Fault)
            return
        assert found == result
        assert type(found) is type(result)


class TestUnits:
    @pytest.mark.parametrize(
        "text",
        ["", "foo", "kg kg kg kg kg kg kg", "__import__('os')", "9**9**9", "dB", "kg^99", "1e9",
         "pH", "10^9", "kg/10^9", "x" * 41, "mEq/L"],
    )  # fmt: skip
    def test_what_is_no_unit_here(self, text: str) -> None:
        assert converter(text, "kg") is None

    def test_units_that_do_not_fit_together_give_nothing(self) -> None:
        assert converted(1.0, "kg", "m") is None
        assert converted(1.0, "IU/L", "mg/L") is None

    def test_a_declared_unit_is_looked_at(self) -> None:
        declared = [
            schema(StringType(), "s"),
            schema(WEIGHT, "w"),
            schema(ListType(items=DecimalType(unit="nonsense")), "l"),
        ]
        units = units_of(declared)
        assert units == ((1, "kg"), (2, "nonsense"))
        with pytest.raises(Invalid) as refused:
            check_units(Units(units=units), lambda _: None)
        assert refused.value.path == "$.attributes[2].valueType.unit"
        assert check_units(Units(units=units[:1]), lambda _: None).count == 1


class TestDeclaring:
    @pytest.mark.parametrize(
        ("declared", "path"),
        [
            (schema(AGE, ""), "name"),
            (schema(AGE, "a.b"), "name"),
            (schema(AGE, " a"), "name"),
            (schema(AGE, "x" * 501), "name"),
            (schema(AGE, display_name="x" * 501), "displayName"),
            (schema(IntegerType(minimum=2, maximum=1)), "valueType.maximum"),
            (schema(IntegerType(minimum=-(10**15))), "valueType.minimum"),
            (schema(DecimalType(minimum=2, maximum=1)), "valueType.maximum"),
            (schema(DecimalType(unit=" ")), "valueType.unit"),
            (schema(StringType(max_length=0)), "valueType.maxLength"),
            (schema(StringType(pattern=r"(?=a)")), "valueType.pattern"),
            (schema(ChoiceType(options=())), "valueType.options"),
            (schema(ChoiceType(options=("a", " b"))), "valueType.options[1]"),
            (schema(ChoiceType(options=("a", "a"))), "valueType.options[1]"),
            (schema(ListType(items=AGE, separator=" ")), "valueType.separator"),
            (schema(ListType(items=AGE, separator="x")), "valueType.separator"),
            (schema(ListType(items=ChoiceType(options=()))), "valueType.items.options"),
        ],
    )
    def test_a_contradiction_is_refused_where_it_stands(self, declared, path) -> None:
        with pytest.raises(Invalid) as refused:
            check_schemas([schema(AGE, "fine"), declared])
        assert refused.value.path == f"$.attributes[1].{path}"

    def test_a_name_is_declared_once(self) -> None:
        with pytest.raises(Invalid) as refused:
            check_schemas([schema(AGE), schema(WEIGHT)])
        assert refused.value.path == "$.attributes[1].name"

    def test_a_list_of_lists_is_none(self) -> None:
        inner = {"type": "list", "items": {"type": "boolean"}}
        with pytest.raises(Invalid):
            read_struct(
                {"name": "a", "valueType": {"type": "list", "items": inner}}, AttributeSchema
            )

    def test_a_change_replaces_by_name_and_may_be_made_twice(self) -> None:
        old = (schema(AGE, "a"), schema(AGE, "b"), schema(AGE, "c"))
        new = merged(old, [schema(WEIGHT, "b"), schema(WEIGHT, "d")], ["a"])
        assert [(each.name, each.value_type) for each in new] == [
            ("b", WEIGHT),
            ("c", AGE),
            ("d", WEIGHT),
        ]
        assert merged(new, [schema(WEIGHT, "b"), schema(WEIGHT, "d")], ["a"]) == new

    @pytest.mark.parametrize("removed", [["b"], ["x"], ["a"]])
    def test_what_is_removed_must_be_declared_and_stay_so(self, removed) -> None:
        old, new = [schema(AGE, "a"), schema(AGE, "b")], [schema(AGE, "b")]
        if removed == ["a"]:
            check_removed(old, new, removed)
            return
        with pytest.raises(Invalid) as refused:
            check_removed(old, new, removed)
        assert refused.value.path == "$.removed[0]"


class TestOutline:
    @pytest.mark.parametrize(
        ("values", "of"),
        [
            ([1, 5], IntegerType(minimum=1, maximum=5)),
            ([1, 2.5], DecimalType(minimum=1.0, maximum=2.5)),
            ([True, False], BooleanType()),
            ([True, 1], StringType()),
            (["red", "blue", "red"], ChoiceType(options=("blue", "red"))),
            (["red"], StringType()),
            ([str(n) + "x" for n in range(21)], StringType()),
            (["2024-05-01T00:00:00Z"], DateTimeType()),
            ([1, "red"], StringType()),
            ([(1, 2), 3], ListType(items=IntegerType(minimum=1, maximum=3))),
            ([], None),
        ],
    )
    def test_the_narrowest_type_is_inferred(self, values, of) -> None:
        assert infer(values) == of

    def test_the_json_schema_says_what_a_subject_may_have(self) -> None:
        declared = [
            schema(AGE, "age", required=True, display_name="Age"),
            schema(WEIGHT, "weight"),
            schema(ListType(items=COLOUR), "colours"),
            schema(DateTimeType(), "seen"),
        ]
        made = json_schema(declared, title="clinic")
        jsonschema.Draft202012Validator.check_schema(made)
        assert made["properties"]["age"]["title"] == "Age"
        assert made["properties"]["weight"]["x-unit"] == "kg"
        assert made["required"] == ["age"]
        holds = jsonschema.Draft202012Validator(made).is_valid
        assert holds({"age": 7, "colours": ["red", "blue"], "other": "x"})
        assert holds({"age": [7, 8]})
        assert not holds({"weight": 7.5})
        assert not holds({"age": "7"})
        assert not holds({"age": 121})
        assert not holds({"age": 7, "colours": ["green"]})
