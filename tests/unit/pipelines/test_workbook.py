"""Workbooks a portion at a time: the same cells as all at once, however they are written."""

import io
import random
import zipfile
from datetime import date

import openpyxl
import pytest

from cvf_app.pipelines.model import Unreadable
from cvf_app.pipelines.workbook import Workbook
from tests.support.tables import as_sheet

SPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"


def read(content: bytes, portion: int = 64) -> list[tuple[int, list[object]]]:
    book = Workbook(io.BytesIO(content), "", portion=portion)
    return [row for row in book.rows(lambda _: None) if any(row[1])]


def written(rows: str, texts: str = "", *, root: str = "worksheet", sst: str = "sst") -> bytes:
    """Return a workbook whose sheet and shared texts are these."""
    plain = io.BytesIO(as_sheet(["id"], []))
    prefix = root.rpartition("worksheet")[0]
    space = f'xmlns:{prefix[:-1]}="{SPACE}"' if prefix else f'xmlns="{SPACE}"'
    link = f'<Relationship Id="rId99" Type="{KIND}" Target="sharedStrings.xml"/>'
    out = io.BytesIO()
    with zipfile.ZipFile(plain) as given, zipfile.ZipFile(out, "w") as made:
        for name in given.namelist():
            data = given.read(name).decode()
            if name == "xl/worksheets/sheet1.xml":
                data = f"<{root} {space}><{prefix}sheetData>{rows}</{prefix}sheetData></{root}>"
            if name == "xl/_rels/workbook.xml.rels" and "sharedStrings" not in data:
                data = data.replace("</Relationships>", f"{link}</Relationships>")
            if name != "xl/sharedStrings.xml":
                made.writestr(name, data)
        made.writestr("xl/sharedStrings.xml", f'<{sst} xmlns="{SPACE}">{texts}</{sst}>')
    return out.getvalue()


TEXTS = "<si><t>zero</t></si><si><r><t>o</t></r><r><t>ne</t></r></si><si/><si><t>three</t></si>"


class TestPortions:
    @pytest.mark.parametrize("portion", [1, 64, 1000, 2**20])
    def test_every_portion_gives_what_the_whole_gives(self, portion: int) -> None:
        draw = random.Random(7)
        book = openpyxl.Workbook()
        wanted = []
        kinds = ["text", 7, 2.5, True, date(2020, 1, 2), None]
        for number in range(1, 120):
            cells = [draw.choice(kinds) for _ in range(draw.randint(1, 6))]
            if any(cells):
                wanted.append((number, cells))
            book.active.append(cells)
        file = io.BytesIO()
        book.save(file)
        trimmed = [(line, cut(cells)) for line, cells in read(file.getvalue(), portion)]
        assert trimmed == [(line, cut(cells)) for line, cells in wanted]

    def test_shared_texts_are_found_from_any_row(self) -> None:
        draw = random.Random(8)
        drawn = [draw.randrange(300) for _ in range(500)]
        rows = "".join(
            f'<row r="{line}"><c r="B{line}" t="s"><v>{number}</v></c></row>'
            for line, number in enumerate(drawn, 1)
        )
        texts = "".join(f"<si><t>text {number}</t></si>" for number in range(300))
        assert read(written(rows, texts)) == [
            (line, [None, f"text {number}"]) for line, number in enumerate(drawn, 1)
        ]


def cut(cells: list[object]) -> list[object]:
    """Blank cells at the end do not count, and the reader's blank is an empty text."""
    kept = [None if cell == "" else cell for cell in cells]
    while kept and kept[-1] is None:
        kept.pop()
    return kept


class TestWaysOfWriting:
    @pytest.mark.parametrize(
        "cell",
        [
            '<c r="A1" t="s"><v>3</v></c>',
            "<c r='A1' t='s'><v>3</v></c>",
            '<c t="s" s="0" r="A1"> <v> 3 </v></c>',
            '<c r="A1" t = "s"><f>B1</f><v>3</v></c>',
            '<c r="A1" t="s"><f/><v xml:space="preserve">3</v></c>',
            '<c r="C1" t="s"/><c r="A1" t="s"><v>3</v></c>',
            '<c r="A1" t="s"><v>3</v></c><c r="B1" t="s"></c>',
            '<c r="A1" t="inlineStr"><is><t>three</t></is></c>',
        ],
    )
    def test_a_shared_text_may_be_named_in_many_ways(self, cell: str) -> None:
        ((line, cells),) = read(written(f'<row r="1">{cell}</row>', TEXTS))
        assert (line, cut(cells)) == (1, ["three"])

    def test_text_that_looks_like_a_mark_is_text(self) -> None:
        cell = '<c r="A1" t="inlineStr"><is><t>x t="s" y</t></is></c><c r="B1" t="s"><v>1</v></c>'
        assert read(written(f'<row r="1">{cell}</row>', TEXTS)) == [(1, ['x t="s" y', "one"])]

    def test_rows_and_cells_without_places_follow_one_another(self) -> None:
        rows = "".join(f"<row><c><v>{number}</v></c></row>" for number in range(1, 30))
        assert read(written(rows)) == [(number, [float(number)]) for number in range(1, 30)]

    def test_elements_may_have_a_prefix(self) -> None:
        rows = '<x:row r="2"><x:c r="A2"><x:v>5</x:v></x:c></x:row>'
        assert read(written(rows, root="x:worksheet")) == [(2, [5.0])]

    def test_an_empty_sheet_has_no_rows(self) -> None:
        assert read(written("")) == []


class TestUnreadable:
    @pytest.mark.parametrize(
        ("rows", "sentence"),
        [
            ('<row r="1"><c r="A1" t="s"><v>4</v></c></row>', "not there"),
            ('<row r="1"><c r="A1" t="s"><v>x</v></c></row>', "unusual way"),
            ('<row r="1"><!-- <row> --><c r="A1"><v>1</v></c></row>', "unusual way"),
            ('<row r="1"><c r="A1"><v>1</v></row>', "cannot be read"),
        ],
    )
    def test_it_is_said_and_nothing_is_guessed(self, rows: str, sentence: str) -> None:
        with pytest.raises(Unreadable, match=sentence):
            read(written(rows, TEXTS))

    def test_a_sheet_that_breaks_off_is_noticed(self) -> None:
        whole = written('<row r="1"><c r="A1"><v>1</v></c></row>')
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as given, zipfile.ZipFile(out, "w") as made:
            for name in given.namelist():
                data = given.read(name)
                made.writestr(name, data[:-30] if name.endswith("sheet1.xml") else data)
        with pytest.raises(Unreadable, match="before its last row"):
            read(out.getvalue())
