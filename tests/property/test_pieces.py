"""What comes of a table does not depend on the pieces that it is cut into."""

import io
import json

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from cvf_app.ids import SourceId
from cvf_app.pipelines.merge import Types, merge
from cvf_app.pipelines.model import BasicPattern, FilePipeline, RemapPipeline, Unreadable
from cvf_app.pipelines.objects import batches, objects
from cvf_app.pipelines.patterns import compile_set, matches
from cvf_app.pipelines.pieces import Cutter
from cvf_app.pipelines.portion import (
    Mapper,
    Order,
    Setting,
    TablePiece,
    pack,
    unpack_portion,
    worker,
)
from cvf_app.pipelines.read import Table
from cvf_app.subject import Subject
from cvf_app.wire import convert, decode

FILE = convert(
    {"pipelineType": "filePipeline", "pipelineName": "f", "attribute": "id", "missing": ["NA"]},
    FilePipeline,
)
REMAP = convert(
    {
        "pipelineType": "remapPipeline",
        "pipelineName": "r",
        "directives": [
            {"directiveType": "termSet", "origin": "a", "destination": "eav"},
            {
                "directiveType": "termSet",
                "origin": "b",
                "destination": "eav",
                "patternSets": [
                    {
                        "patternSetType": "qualifier",
                        "pattern": r"(\S)\.?([0-9a-z])",
                        "qualifierReplacement": r"\1.",
                        "valueReplacement": r"\2",
                    }
                ],
            },
        ],
    },
    RemapPipeline,
)
CELLS = st.one_of(
    st.sampled_from(["", "NA", "1", "2.5", "true", "x.1", "y/2", "P1", "P2"]),
    st.text(st.sampled_from('ab1 "\n,\r'), max_size=6),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Make a table whose cells may be quoted or broken, and whose rows may be ragged."""
    lines = []
    for row in draw(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12)):
        cells = [
            '"' + cell.replace('"', '""') + '"' if draw(st.booleans()) else cell.strip("\n\r")
            for cell in row
        ]
        lines.append(",".join(cells))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    whole = ("id,a,b" + end + end.join(lines) + draw(st.sampled_from(["", end]))).encode()
    return whole + draw(st.sampled_from([b"", b"", b"", b'P9,"open\n', b"P9,\xff\nP8,x\n"]))


def _table(content, refused):
    file = io.BytesIO(content)
    return file, Table(file, ",", refuse=refused.append, advance=lambda _: None)


def _joined(portions, refused):
    """Put portions together as the intake does, up to the first fault."""
    parts, names, rows, types = {}, {}, 0, Types()
    misses = {}
    for portion in portions:
        rows += portion.rows
        refused.extend(portion.refusals)
        for name, written in portion.names.items():
            names.setdefault(name, written)
        types.join(portion.kinds)
        bodies = portion.bodies.splitlines()
        for place, (name, body) in enumerate(zip(portion.ids, bodies, strict=True)):
            parts.setdefault(name, []).append(decode(body, Subject))
            found = decode(portion.misses.get(place, b"[]"), list)
            misses.setdefault(name, {}).update(dict.fromkeys(map(tuple, found)))
        if portion.fault is not None:
            return portion.fault
    subjects = [types.typed(merge(found)) for found in parts.values()]
    return subjects, names, rows, refused, types.kinds, misses


class TestPieces:
    @settings(max_examples=300, deadline=None)
    @given(tables(), st.integers(1, 40))
    def test_give_what_the_whole_table_gives(self, content: bytes, size: int) -> None:
        refused, again = [], []
        _, table = _table(content, refused)
        setting = Setting(
            file_pipeline=FILE,
            remap_pipeline=REMAP,
            source_id=SourceId("s"),
            filename="x.csv",
            header=table.header,
        )
        order = Order(setting=setting)
        whole = _joined(Mapper(setting, order).portions(table, refused.append), refused)
        file, table = _table(content, again)
        cutter = Cutter(file, table.below.line, lambda _: None)
        work = worker(pack(order))
        pieces = _joined(
            (
                unpack_portion(work(pack(TablePiece(content=each, line=line))))
                for line, each in cutter.pieces(size)
            ),
            again,
        )
        assert pieces == whole

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.text(st.sampled_from('ab"\n,'), max_size=12)), st.integers(1, 30))
    def test_lose_no_byte(self, lines: list[str], size: int) -> None:
        content = "\n".join(lines).encode()
        found = list(Cutter(io.BytesIO(content), 0, lambda _: None).pieces(size))
        assert b"".join(each for _, each in found) == content
        before = b""
        for line, each in found:
            assert line == before.count(b"\n")
            assert before.count(b'"') % 2 == 0
            before += each


class TestObjects:
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.dictionaries(
                st.text(max_size=3),
                st.one_of(st.text(max_size=5), st.lists(st.integers())),
                max_size=3,
            ),
            max_size=6,
        ),
        st.sampled_from([None, 1]),
        st.sampled_from([b"", b" ", b"x", b",", b"]"]),
    )
    def test_a_list_gives_its_items(self, items, indent, behind) -> None:
        content = json.dumps(items, indent=indent, ensure_ascii=False).encode()
        found = [text for _, text in objects(io.BytesIO(content), lambda _: None)]
        assert [json.loads(text) for text in found] == items
        if behind.strip():
            with pytest.raises(Unreadable, match="after"):
                list(objects(io.BytesIO(content + behind), lambda _: None))

    @given(
        st.lists(st.sampled_from([b"{}", b"", b'{"a":"b"}', b" "]), max_size=8), st.integers(0, 9)
    )
    def test_the_head_of_a_batch_is_its_first_objects(self, lines, most) -> None:
        content = b"{}\n" + b"\n".join(lines)
        (batch, *_) = list(batches(io.BytesIO(content), lambda _: None))
        assert list(batch.head(most).objects()) == list(batch.objects())[:most]


class TestPatterns:
    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(
            ["a+", "a*", r"(\w)(\d)?", r"^x|b", r"\b", r"é|(a)", r"(?:^abc)|x*", ".", r"HP:(\d{2})"]
        ),
        st.text(st.sampled_from("abcxé1 HP:2𝄞"), min_size=1, max_size=12),
    )
    def test_match_as_the_library_does(self, pattern: str, cell: str) -> None:
        given_set = BasicPattern(pattern=pattern, replacement=r"\g<0>")
        found = [result for result, _ in matches(compile_set(given_set, "$"), cell)]
        wanted = [one.group(0).strip() for one in re2.finditer(pattern, cell) if one.group(0)]
        assert found == wanted
