import pytest

from cvf_app.duties import DUTIES, Duty, blueprints, parse
from cvf_app.errors import Invalid


class TestDuties:
    def test_none_named_means_all(self):
        assert parse("") == frozenset(Duty)

    def test_every_duty_has_its_meaning(self):
        assert set(DUTIES) == set(Duty)

    def test_a_blueprint_of_two_duties_comes_once(self):
        both = blueprints(parse("admin,query"))
        assert len(both) == len(set(both))

    def test_a_wrong_word_is_answered_with_the_right_ones(self):
        with pytest.raises(Invalid, match="record-compiler"):
            parse("query,compiler")
