"""What a run changes in a source, and the batches in which subjects are kept."""

import io
from pathlib import Path

import pytest

from cvf_app.engine.marks import among, gathered, packed, unpacked
from cvf_app.errors import Invalid
from cvf_app.sources import batches
from cvf_app.sources.change import Change, Fresh
from cvf_app.sources.model import Contents, Share


def share(name, subjects=100):
    return Share(share=f"s/{name}/r", data_file_id=name, subjects=subjects, batches=1)


def fresh(name, subjects=10):
    return Fresh(name, Path(name), subjects)


OLD = Contents(
    generation=7,
    folder="7-x",
    shares=(share("a", 1000), share("b", 20), share("c", 30)),
    record_count=1050,
)


class TestChange:
    def test_what_is_replaced_keeps_its_place_and_what_is_new_comes_last(self):
        change = Change.of(OLD, [fresh("d"), fresh("b")], {"a", "b", "c", "d"})
        assert change.order == ("a", "b", "c", "d")
        assert set(change.staying) == {"a", "c"}
        assert [each.data_file_id for each in change.gone] == ["b"]
        assert change.expected == 1050

    def test_what_was_deleted_goes_also_when_it_is_fresh(self):
        change = Change.of(OLD, [fresh("c"), fresh("d")], {"a", "b"})
        assert (change.order, change.fresh) == (("a", "b"), {})
        assert change.folder("0123456789") == "8-01234567"
        assert Change.of(OLD, [], ()).folder("0123456789") is None

    @pytest.mark.parametrize(
        ("new", "alive", "small"),
        [
            ([fresh("d")], "abcd", True),
            ([fresh("b", 30)], "abc", True),
            ([fresh("d", 900)], "abcd", False),
            ([], "abc", False),
            ([], "ac", True),
            ([], "bc", False),
            ([fresh("a"), fresh("b"), fresh("c")], "abc", False),
        ],
    )
    def test_few_subjects_are_a_small_change_and_none_are_not(self, new, alive, small):
        assert Change.of(OLD, new, set(alive)).is_small is small


class TestBatches:
    def test_lines_come_back_as_they_were(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batches, "MOST_SUBJECTS", 7)
        lines = [b'{"subjectId":"p%d"}\n' % n for n in range(30)]
        (tmp_path / "x").write_bytes(b"".join(lines))
        found = list(batches.cut(tmp_path / "x"))
        assert [each.subjects for each in found] == [7, 7, 7, 7, 2]
        out = io.BytesIO()
        for each in found:
            batches.add(each.data, out)
        assert out.getvalue() == b"".join(lines)
        assert b"".join(each.marks for each in found) == packed(b"p%d" % n for n in range(30))

    def test_a_subject_that_cannot_be_kept_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batches, "LARGEST_SUBJECT", 20)
        (tmp_path / "x").write_bytes(b'{"subjectId":"p1111111111"}\n')
        with pytest.raises(Invalid):
            list(batches.cut(tmp_path / "x"))


class TestMarks:
    def test_they_find_what_is_wanted_and_nothing_else(self):
        wanted = gathered([packed([b"a", b"b"]), packed([b"b", b"c"])])
        assert len(wanted) == 3
        found = among(unpacked(packed([b"x", b"c", b"a", b"y"])), wanted)
        assert found.tolist() == [False, True, True, False]
        assert not among(unpacked(packed([b"x"])), gathered([])).any()
