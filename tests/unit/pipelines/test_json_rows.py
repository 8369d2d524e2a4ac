"""Tables in JSON become rows."""

import gzip
import io

import pytest

from cvf_app.pipelines.json_rows import JsonRows
from cvf_app.pipelines.model import Refusal, Unreadable


def read(content: bytes) -> tuple[JsonRows, list[tuple[int, list[str]]], list[Refusal]]:
    refused: list[Refusal] = []
    rows = JsonRows(io.BytesIO(content), refuse=refused.append, advance=lambda _: None)
    return rows, [(row.line, row.cells) for row in rows.rows()], refused


def test_lists_lines_and_packed_lines_are_the_same() -> None:
    as_list = b'[{"id": "P1", "a": 1}, {"id": "P2", "a": 2.5}]'
    as_lines = b'{"id": "P1", "a": 1}\n{"id": "P2", "a": 2.5}\n'
    wanted = [(1, ["P1", "1"]), (2, ["P2", "2.5"])]
    for content in (as_list, as_lines, gzip.compress(as_lines)):
        rows, found, refused = read(content)
        assert rows.header == ("id", "a")
        assert found == wanted
        assert not refused
        assert rows.read_rows == 2
        assert rows.column("a") == 1


def test_any_row_may_have_members_of_its_own() -> None:
    rows, found, _ = read(b'{"id": "P1"}\n\n{"b": true, "id": " P2 "}\n{"b": null}\n')
    assert rows.header == ("id", "b")
    assert found == [(1, ["P1", ""]), (3, ["P2", "true"])]


def test_a_list_is_several_cells_of_one_column() -> None:
    rows, found, _ = read(b'[{"id": "P1", "hpo": ["a", "b"], "x": []}, {"id": "P2", "hpo": "c"}]')
    assert rows.header == ("id", "hpo", "hpo", "x")
    assert [cells for _, cells in found] == [["P1", "a", "b", ""], ["P2", "c", "", ""]]


def test_an_object_in_a_row_is_refused_with_its_place() -> None:
    content = b'{"id": "P1", "a": {"b": 1}}\n{"id": "P2"}\n{"id": "P3", "a": [[1]]}\n'
    rows, found, refused = read(content)
    assert found == [(2, ["P2"])]
    assert [one.line for one in refused] == [1, 3]
    assert "`a` holds an object" in refused[0].reason
    assert rows.read_rows == 3
    _, _, refused = read(b'[{"id": "P1"}, {"id": {}}]')
    assert refused[0].reason.startswith("item 2:")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "no columns"),
        (b"[{}]", "no columns"),
        (b'[{"id": 1}', "no end"),
        (b'[{"id": 1}, {"id": }]', "item 2"),
        (b'{"id": 1}\n{"id": \n', "line 2"),
        (b'[{"id": 1}, 5]', "item 2"),
        (b'[{"": 1}]', "Column 1 has no name"),
        (b'[{"id": "\xe9"}]', "item 1"),
    ],
)
def test_broken_json_names_the_place(content: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read(content)
