import pytest

from cvf_app.backends.mongo import Index
from cvf_app.errors import Invalid
from cvf_app.migrations import numbers
from cvf_app.migrations.address import open_at
from cvf_app.migrations.difference import difference, write, written
from cvf_app.migrations.model import BYTES, NUMBER, TEXT, Declared, shape_of, validator
from cvf_app.migrations.shapes import SHAPES

ONE = Index((("a", 1),), unique=True)
TWO = Index((("a", 1), ("b", -1)))


class TestShape:
    @pytest.mark.parametrize("name", sorted(SHAPES))
    def test_a_validator_says_the_same_shape(self, name):
        assert shape_of(validator(SHAPES[name])) == dict(sorted(SHAPES[name].items()))

    def test_a_foreign_validator_is_none_of_ours(self):
        assert shape_of({}) is None
        assert shape_of({"$jsonSchema": {"properties": {"a": {"bsonType": "int"}}}}) == {
            "a": ("int",)
        }
        assert shape_of({"a": {"$gt": 1}}) == {}


class TestDifference:
    def test_nothing_differs_from_itself(self):
        same = {"c": Declared(frozenset({ONE}), {"a": TEXT})}
        assert difference(same, same) == ()
        assert difference(same, {"c": Declared(frozenset({ONE}), {"a": TEXT})}) == ()

    def test_order_of_fields_is_no_difference(self):
        old = {"c": Declared(shape={"a": TEXT, "b": BYTES})}
        assert difference(old, {"c": Declared(shape={"b": BYTES, "a": TEXT})}) == ()

    def test_each_step_has_its_way_back(self):
        old = {"c": Declared(frozenset({ONE})), "gone": Declared(frozenset({TWO}))}
        new = {"c": Declared(frozenset({TWO}), {"n": NUMBER}), "new": Declared()}
        forth = [step.split("(")[0] for step, _ in difference(old, new)]
        back = [step.split("(")[0] for _, step in difference(old, new)]
        assert forth == ["index", "drop_index", "shape", "drop_index", "drop_empty", "make"]
        assert back == ["drop_index", "index", "shape", "index", "make", "drop_empty"]

    def test_shapes_do_not_count_where_a_server_takes_none(self):
        old, new = {"c": Declared()}, {"c": Declared(shape={"a": TEXT})}
        assert difference(old, new, validates=False) == ()

    def test_what_is_written_can_be_read(self, tmp_path):
        (tmp_path / "m0001_x.py").write_text(written(1, 'It\'s "first".', (('make("c")',) * 2,)))
        path = write(tmp_path, 2, "Äh, más — 'so'!", difference({}, {"c": Declared({ONE})}))
        assert path.name == "m0002_h_m_s_so.py"
        assert [each.sentence for each in numbers.load(tmp_path)] == [
            'It\'s "first".',
            "Äh, más — 'so'!",
        ]


class TestNumbers:
    def test_ours_are_whole(self):
        assert len(numbers.load()) == numbers.newest()

    @pytest.mark.parametrize("names", [("m0002_x.py",), ("m0001_x.py", "m0003_x.py")])
    def test_gaps_are_refused(self, tmp_path, names):
        for name in names:
            (tmp_path / name).write_text(written(int(name[1:5]), "x", (('make("c")',) * 2,)))
        with pytest.raises(Invalid, match="without gaps"):
            numbers.load(tmp_path)

    def test_a_file_of_another_number_is_refused(self, tmp_path):
        (tmp_path / "m0001_x.py").write_text(written(2, "x", (('make("c")',) * 2,)))
        with pytest.raises(Invalid, match="no MIGRATION of its number"):
            numbers.load(tmp_path)


class TestAddress:
    @pytest.mark.parametrize(
        "url",
        ["", "localhost/x", "http://localhost/x", "mongodb:///x", "mongodb://localhost"],
    )
    def test_an_address_that_names_no_database_is_refused(self, url):
        with pytest.raises(Invalid):
            open_at(url)
