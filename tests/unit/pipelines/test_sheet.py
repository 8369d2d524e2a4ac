"""Spreadsheets: their cells as the texts of a CSV, and what is not opened."""

import datetime as dt
import io
import zipfile

import openpyxl
import pytest

from cvf_app.pipelines.model import Refusal, Unreadable
from cvf_app.pipelines.sheet import Sheet, text_of
from cvf_app.pipelines.workbook import Cell
from tests.support.tables import as_sheet

DAY = dt.date(2020, 1, 2)
NOON = dt.datetime.combine(DAY, dt.time(12))


def opened(content: bytes, name: str = "") -> tuple[Sheet, list[Refusal]]:
    refused: list[Refusal] = []
    made = Sheet(io.BytesIO(content), name, refuse=refused.append, advance=lambda _: None)
    return made, refused


def saved(book: openpyxl.Workbook) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


class TestCells:
    @pytest.mark.parametrize(
        ("cell", "text"),
        [
            (1, "1"),
            (1.0, "1"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (1e22, "1e+22"),
            (True, "true"),
            (False, "false"),
            (" a ", "a"),
            (dt.date(2020, 1, 2), "2020-01-02"),
            (NOON, "2020-01-02T12:00:00"),
            (dt.time(3, 4), "03:04:00"),
            (dt.timedelta(hours=30, minutes=5), "30:05:00"),
        ],
    )
    def test_a_typed_cell_is_the_text_of_a_csv(self, cell: Cell, text: str) -> None:
        assert text_of(cell) == text

    def test_what_a_workbook_keeps_comes_back(self) -> None:
        cells = ["P1", 7, 7.25, True, DAY, None, "#N/A", "007"]
        names = [f"c{place}" for place in range(len(cells))]
        table, _ = opened(as_sheet(names, [cells]))
        (row,) = table.rows()
        assert row.cells == ["P1", "7", "7.25", "true", "2020-01-02", "", "", "007"]


class TestRows:
    def test_rows_bear_the_number_that_the_sheet_shows(self) -> None:
        book = openpyxl.Workbook()
        for place, value in {"C3": "id", "D3": "a", "C4": "P1", "C6": "P2", "D6": 2}.items():
            book.active[place] = value
        table, _ = opened(saved(book))
        assert table.header == ("id", "a")
        assert [(row.line, row.cells) for row in table.rows()] == [
            (4, ["P1", ""]),
            (6, ["P2", "2"]),
        ]
        assert table.read_rows == 2
        assert table.column("a") == 1

    def test_a_cell_left_of_the_table_is_refused(self) -> None:
        book = openpyxl.Workbook()
        for place, value in {"B1": "id", "A2": "stray", "B2": "P1", "B3": "P2"}.items():
            book.active[place] = value
        table, refused = opened(saved(book))
        assert [row.cells for row in table.rows()] == [["P2"]]
        assert [(each.line, "left of" in each.reason) for each in refused] == [(2, True)]

    def test_a_row_that_is_too_long_is_refused(self) -> None:
        book = openpyxl.Workbook()
        for row in (["id", "a"], ["P1", 1, "x"], ["P2", 2]):
            book.active.append(row)
        table, refused = opened(saved(book))
        assert [row.cells[0] for row in table.rows()] == ["P2"]
        assert refused == [Refusal(line=2, reason="3 cells for 2 columns")]
        assert table.read_rows == 2

    def test_the_sheet_may_be_named(self) -> None:
        book = openpyxl.Workbook()
        book.active.append(["id"])
        book.create_sheet("two").append(["key"])
        content = saved(book)
        assert opened(content)[0].header == ("id",)
        assert opened(content, "two")[0].header == ("key",)
        with pytest.raises(Unreadable, match="no sheet 'three'"):
            opened(content, "three")


class TestRefused:
    def test_headers_are_checked(self) -> None:
        with pytest.raises(Unreadable, match="Column 2 has no name"):
            opened(as_sheet(["id", None, "a"], []))
        with pytest.raises(Unreadable, match="is empty"):
            opened(as_sheet([None], []))
        with pytest.raises(Unreadable, match="no column 'x'"):
            opened(as_sheet(["id"], []))[0].column("x")

    def test_what_is_no_workbook_is_unreadable(self) -> None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("xl/workbook.xml", "<broken")
        with pytest.raises(Unreadable, match="cannot be read"):
            opened(file.getvalue())
        with pytest.raises(Unreadable, match="cannot be read"):
            opened(as_sheet(["id"], [])[:-40])

    def test_a_bomb_is_not_opened(self) -> None:
        file = io.BytesIO(as_sheet(["id"], []))
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/worksheets/sheet9.xml", b" " * 40_000_000)
        with pytest.raises(Unreadable, match="bomb"):
            opened(file.getvalue())


class TestExtent:
    def test_two_far_cells_are_read_without_what_is_between(self) -> None:
        book = openpyxl.Workbook()
        book.active["A1"] = "id"
        book.active["XFD1048576"] = "far"
        table, refused = opened(saved(book))
        assert list(table.rows()) == []
        assert refused == [Refusal(line=1_048_576, reason="16384 cells for 1 columns")]

    def test_the_first_rows_are_had_from_the_beginning_alone(self) -> None:
        content = with_shared_texts(200_000)
        file = Counted(content)
        table = Sheet(file, "", refuse=lambda _: None, advance=lambda _: None)
        assert table.header == ("text 0",)
        assert next(table.rows()).cells == ["text 1"]
        assert file.read_bytes < len(content) / 2

    def test_progress_ends_with_the_whole_file(self) -> None:
        content = with_shared_texts(50_000)
        heard: list[int] = []
        table = Sheet(io.BytesIO(content), "", refuse=lambda _: None, advance=heard.append)
        assert sum(1 for _ in table.rows()) == 49_999
        assert min(heard) >= 0
        assert len(content) * 0.9 < sum(heard) <= len(content)


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.read_bytes += len(found)
        return found


def with_shared_texts(count: int) -> bytes:
    """Return a workbook as Excel writes it: the texts stand apart and cells have their numbers."""
    plain = io.BytesIO(as_sheet(["id"], []))
    rows = "".join(
        f'<row r="{number + 1}"><c r="A{number + 1}" t="s"><v>{number}</v></c></row>'
        for number in range(count)
    )
    texts = "".join(f"<si><t>text {number}</t></si>" for number in range(count))
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"
    out = io.BytesIO()
    with zipfile.ZipFile(plain) as given, zipfile.ZipFile(out, "w") as made:
        for name in given.namelist():
            data = given.read(name).decode()
            if name == "xl/worksheets/sheet1.xml":
                data = f"<worksheet {space}><sheetData>{rows}</sheetData></worksheet>"
            if name == "xl/_rels/workbook.xml.rels" and "sharedStrings" not in data:
                link = f'<Relationship Id="rId99" Type="{kind}" Target="sharedStrings.xml"/>'
                data = data.replace("</Relationships>", f"{link}</Relationships>")
            if name != "xl/sharedStrings.xml":
                made.writestr(name, data)
        made.writestr("xl/sharedStrings.xml", f"<sst {space}>{texts}</sst>")
    return out.getvalue()
