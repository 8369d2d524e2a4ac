"""A workbook (xlsx) read a portion at a time, so that memory does not grow with a sheet.

The reader of spreadsheets holds the sheet it is given as a dense grid. So it is given small ones:
about a megabyte of rows at once, as a workbook of its own with the texts that these rows use
(ECMA-376, part 1: 18.3.1.80 `sheetData`, 18.4.8 `si`, 18.18.11 `t="s"`). Texts that cells share
lie in a temporary file, read only as far as rows asked for them.
"""

import datetime as dt
import io
import re
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO, Self
from xml.sax.saxutils import escape

from python_calamine import CalamineError, CalamineWorkbook, WorksheetNotFound

from cvf_app.pipelines.archive import DAMAGE, check_entries
from cvf_app.pipelines.model import Unreadable

LARGEST_TEXTS = 512 * 2**20
PORTION = 2**20
_MOST_GRID = 2_000_000
_LARGEST_PART = 16 * 2**20
_IN_MEMORY = 4 * 2**20
_STRINGS = "xl/sharedstrings.xml"
_NEEDED = (
    "[content_types].xml",
    "_rels/.rels",
    "xl/workbook.xml",
    "xl/_rels/workbook.xml.rels",
    "xl/styles.xml",
)
_SPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_ROOT = re.compile(rb"<(?:\w+:)?(?:worksheet|sst)\b[^>]*>")
_DATA = re.compile(rb"<((?:\w+:)?)sheetData\s*(/?)>")
_ROW_END = re.compile(rb"</(?:\w+:)?row>")
_ROW = re.compile(rb"""<(?:\w+:)?row\b[^>]*?\br=["']([0-9]{1,7})["']""")
_COLUMN = re.compile(rb"""<(?:\w+:)?c\b[^>]*?\br=["']([A-Z]{1,3})[0-9]""")
_USUAL_COLUMN = re.compile(rb'<c r="([A-Z]{1,3})[0-9]')
_NUMBERED = re.compile(rb"""<(?:\w+:)?(?:row|c)\b[^>]*?\br=["']""")
_USUAL_SHARED = re.compile(rb'(t="s"[^>/]*><v>)([0-9]{1,9})(?=</v>)')
_SHARED_MARK = re.compile(rb"""\bt\s*=\s*["']s["']""")
_SHARED_CELL = re.compile(rb"""<(?:\w+:)?c\b[^>]*?\bt\s*=\s*["']s["'][^>]*>""")
_SHARED_NUMBER = re.compile(
    rb"\s*(?:<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*)?<(?:\w+:)?v\b[^>]*>\s*([0-9]{1,9})\s*</"
)
_CELL_END = re.compile(rb"\s*</(?:\w+:)?c>")
_TEXT = re.compile(rb"<((?:\w+:)?si)(?:\s[^>]*)?(?:/>|>.*?</\1>)", re.DOTALL)
_UNUSUAL = "This workbook is written in an unusual way; save it again with a spreadsheet program."

Cell = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta | None
Grid = Sequence[Sequence[Cell]]


class Workbook:
    """One sheet of a workbook, and what is needed to read its rows."""

    def __init__(self, file: BinaryIO, name: str, *, portion: int = PORTION) -> None:
        """Open the sheet of this name, or the first one; `portion` is in bytes of its XML.

        Raises:
            Unreadable: it is no workbook, not to be trusted, or has no such sheet.
        """
        size = file.seek(0, io.SEEK_END)
        self._portion = portion
        with _readable():
            self._archive = zipfile.ZipFile(file)
            check_entries(self._archive.infolist(), size)
            # Programs do not agree about capital letters in the names of parts.
            names = {info.filename.casefold(): info for info in self._archive.infolist()}
            self._parts = {
                names[part].filename: _whole(self._archive, names[part])
                for part in _NEEDED
                if part in names
            }
            self._strings = names.get(_STRINGS)
            if self._strings is not None and self._strings.file_size > LARGEST_TEXTS:
                raise Unreadable("The texts of this workbook are too large; save it as CSV.")
            self.title, self._sheet = self._find(name)
        self.size = self._sheet.file_size

    def rows(self, advance: Callable[[int], None]) -> Iterator[tuple[int, list[Cell]]]:
        """Yield the number and the typed cells of each row; `advance` hears of bytes read.

        Raises:
            Unreadable: the sheet is damaged or written in a way that we cannot read.
        """
        with _readable(), self._texts() as texts, self._archive.open(self._sheet) as content:
            pieces = _pieces(content, self._portion, advance)
            root = next(pieces)
            line = 0
            for piece in pieces:
                for start, left, grid in self._grids(root, piece, texts):
                    # Rows without numbers follow the ones before.
                    base = start if _is_numbered(piece) else line + start
                    for place, cells in enumerate(grid, 1):
                        yield base + place, [*[None] * left, *cells]
                    line = base + len(grid)

    def _grids(
        self, root: bytes, piece: bytes, texts: "SharedTexts"
    ) -> Iterator[tuple[int, int, Grid]]:
        """Read complete rows as grids: the rows above each, the columns left of it, its cells."""
        if _extent(piece) > _MOST_GRID:
            ends = [found.end() for found in _ROW_END.finditer(piece)]
            if len(ends) > 1:
                middle = ends[len(ends) // 2 - 1]
                yield from self._grids(root, piece[:middle], texts)
                yield from self._grids(root, piece[middle:], texts)
                return
        prefix = root[1 : root.index(b"worksheet")]
        rows, used = _localised(piece)
        start, end = b"<%ssheetData>" % prefix, b"</%ssheetData></%sworksheet>" % (prefix, prefix)
        parts = {self._sheet.filename: root + start + rows + end}
        if used and self._strings is not None:
            parts[self._strings.filename] = texts.workbook_part(used)
        found = self._open(parts).get_sheet_by_name(self.title)
        if found.start is not None:
            yield found.start[0], found.start[1], found.to_python(skip_empty_area=True)

    def _texts(self) -> "SharedTexts":
        content = self._archive.open(self._strings) if self._strings is not None else io.BytesIO()
        return SharedTexts(content, self._portion)

    def _find(self, name: str) -> tuple[str, zipfile.ZipInfo]:
        """Return the title of a sheet and where it lies, as the reader itself finds it.

        The reader opens the workbook with the name of its part as the only cell of each sheet.
        """
        marked = {
            info.filename: (
                f'<worksheet xmlns="{_SPACE}"><sheetData><row r="1"><c r="A1" t="inlineStr">'
                f"<is><t>{escape(info.filename)}</t></is></c></row></sheetData></worksheet>"
            ).encode()
            for info in self._archive.infolist()
            if info.filename.endswith(".xml")
            and info.filename not in self._parts
            and info is not self._strings
        }
        book = self._open(marked)
        if not book.sheet_names:
            raise Unreadable("There is no sheet in this workbook.")
        title = name or book.sheet_names[0]
        try:
            cells = book.get_sheet_by_name(title).to_python()
        except WorksheetNotFound as fault:
            raise Unreadable(f"There is no sheet {name!r} in this workbook.") from fault
        if not cells:
            raise Unreadable(f"{title!r} is no sheet of cells.")
        return title, self._archive.getinfo(str(cells[0][0]))

    def _open(self, more: dict[str, bytes]) -> CalamineWorkbook:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as small:
            for part, data in {**self._parts, **more}.items():
                small.writestr(part, data)
        out.seek(0)
        return CalamineWorkbook.from_filelike(out)


class SharedTexts:
    """The texts that cells name by number, in a temporary file, read as far as asked for."""

    def __init__(self, content: IO[bytes], portion: int) -> None:
        """Read from this part of the workbook, so many bytes at once; close in the end."""
        self._portion = portion
        self._content = content
        self._kept: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by `close`
        # Where each text ends; eight bytes a text.
        self._ends = array("Q")
        self._root = b""
        self._rest = b""

    def __enter__(self) -> Self:
        """Be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the part and remove the temporary file."""
        self._content.close()
        self._kept.close()

    def workbook_part(self, numbers: list[int]) -> bytes:
        """Return a part with these texts alone, in this order.

        Raises:
            Unreadable: there are not so many texts.
        """
        while len(self._ends) <= max(numbers):
            self._read_more()
        texts = b"".join(map(self._text, numbers))
        prefix = self._root[1 : self._root.index(b"sst")]
        return b"%s%s</%ssst>" % (self._root, texts, prefix)

    def _text(self, number: int) -> bytes:
        start = self._ends[number - 1] if number else 0
        self._kept.seek(start)
        return self._kept.read(self._ends[number] - start)

    def _read_more(self) -> None:
        piece = self._content.read(self._portion)
        if not piece:
            raise Unreadable("A cell of this workbook names a text that is not there.")
        data = self._rest + piece
        if b"<!" in data or len(data) > _LARGEST_PART:
            raise Unreadable(_UNUSUAL)
        if not self._root and (found := _ROOT.search(data)):
            self._root = found[0]
        end, place = 0, self._kept.seek(0, io.SEEK_END)
        for found in _TEXT.finditer(data):
            place += self._kept.write(found[0])
            self._ends.append(place)
            end = found.end()
        self._rest = data[end:]


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (
        CalamineError,
        *DAMAGE,
        ValueError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ) as fault:
        raise Unreadable(f"This workbook cannot be read: {fault}.") from fault


def _whole(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > _LARGEST_PART:
        raise Unreadable(f"{info.filename} of this workbook is too large; save it as CSV.")
    return archive.read(info)


def _pieces(content: IO[bytes], portion: int, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the opening tag of the sheet, then its rows, whole ones, about a portion at a time."""
    data = b""
    start = None
    while start is None:
        piece = content.read(portion)
        if not piece or len(data) > _LARGEST_PART:
            raise Unreadable(_UNUSUAL)
        data += piece
        start = _DATA.search(data)
    root = _ROOT.search(data, 0, start.start())
    if root is None:
        raise Unreadable(_UNUSUAL)
    yield root[0]
    closing = b"</%ssheetData>" % start[1]
    data = b"" if start[2] else data[start.end() :]
    more = not start[2]
    while more:
        end = data.find(closing)
        more = end < 0
        if more:
            last = max(data.rfind(b"</row>"), data.rfind(b":row>"))
            cut = data.index(b">", last) + 1 if last >= 0 else 0
        else:
            cut = end
        if b"<!" in data[:cut] or len(data) - cut > _LARGEST_PART:
            raise Unreadable(_UNUSUAL)
        if cut:
            yield data[:cut]
            advance(cut)
        data = data[cut:]
        if more:
            piece = content.read(portion)
            if not piece:
                raise Unreadable("This workbook cannot be read: a sheet ends before its last row.")
            data += piece


def _extent(piece: bytes) -> int:
    """Return how many cells the grid of these rows has."""
    # Nearly every program writes cells in one way; the general expression is slow.
    found = _USUAL_COLUMN.findall(piece)
    if len(found) < piece.count(b"<c ") + piece.count(b":c "):
        found = _COLUMN.findall(piece)
    numbers = [int(number) for number in _ROW.findall(piece)]
    height = numbers[-1] - numbers[0] + 1 if numbers else 1
    return max(height, 1) * max(map(_column_number, set(found)), default=1)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _is_numbered(piece: bytes) -> bool:
    end = _ROW_END.search(piece)
    return _NUMBERED.search(piece, 0, end.end() if end else len(piece)) is not None


def _localised(piece: bytes) -> tuple[bytes, list[int]]:
    """Number the shared texts of these rows anew; return the rows and the old numbers in order."""
    numbers: dict[int, int] = {}

    def local(number: bytes) -> bytes:
        return b"%d" % numbers.setdefault(int(number), len(numbers))

    rows, count = _USUAL_SHARED.subn(lambda found: found[1] + local(found[2]), piece)
    if count != len(_SHARED_MARK.findall(piece)):
        numbers.clear()
        rows = _renumbered(piece, local)
    return rows, list(numbers)


def _renumbered(piece: bytes, local: Callable[[bytes], bytes]) -> bytes:
    """Do the same for cells that are written in another way than most programs write them."""
    out: list[bytes] = []
    done = 0
    for cell in _SHARED_CELL.finditer(piece):
        if cell[0].endswith(b"/>") or _CELL_END.match(piece, cell.end()):
            continue
        number = _SHARED_NUMBER.match(piece, cell.end())
        if number is None:
            raise Unreadable(_UNUSUAL)
        out += [piece[done : number.start(1)], local(number[1])]
        done = number.end(1)
    return b"".join((*out, piece[done:]))
