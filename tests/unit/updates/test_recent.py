"""What is remembered for those who come back."""

from cvf_app.updates.model import Change, Lost, Operation
from cvf_app.updates.recent import Recent, newest, position


def change(thing, operation=Operation.UPDATE):
    return Change(interface="jobs", operation=operation, ids=(thing,))


class TestRecent:
    def test_what_came_after_an_id_is_told_whole_or_not_at_all(self):
        recent = Recent(most=3)
        told = [(f"{number}-0", change(str(number))) for number in range(1, 6)]
        assert recent.after("0-0") == ()
        recent.add(told[:2])
        assert recent.after("0-0") == tuple(told[:2])
        recent.add(told[2:])
        assert recent.after("5-0") == ()
        assert recent.after("4-0") == tuple(told[4:])
        assert recent.after("2-0") == tuple(told[2:])
        assert recent.after("1-0") is None
        assert recent.after("0-0") is None
        assert recent.after("nonsense") is None

    def test_a_new_begin_forgets_all(self):
        recent = Recent()
        recent.add([("1-0", change("a"))])
        recent.begin("7-0")
        assert recent.after("1-0") is None
        assert recent.after("7-0") == ()


class TestNewest:
    def test_of_one_thing_the_last_update_is_enough(self):
        told = [
            ("1-0", change("a", Operation.INSERT)),
            ("2-0", change("a")),
            ("3-0", change("b")),
            ("4-0", change("a")),
            ("5-0", Lost()),
            ("6-0", change("b", Operation.DELETE)),
        ]
        assert [entry for entry, _ in newest(told)] == ["1-0", "3-0", "4-0", "5-0", "6-0"]

    def test_ids_compare_as_numbers(self):
        assert position("10-0") > position("9-99")
        assert position("9-10") > position("9-9")
        for strange in ("", "x", "1", "1-", "-1", "1-x", "²-1", "-"):
            assert position(strange) == (-1, 0)
