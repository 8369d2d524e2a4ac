"""Tables as text: a file of bytes becomes rows, one at a time.

Promises: UTF-8 (a byte order mark is dropped), quoting strictly as in RFC 4180, cells trimmed,
rows without content passed over. A fault of the content anywhere fails the file with its line; a
row that is too long is refused and told to `refuse`. Nothing larger than one row is kept.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from cvf_app.pipelines.model import Refusal, Unreadable

LONGEST_ROW = 16 * 2**20
MOST_COLUMNS = 20_000
_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """The cells of one row, as many as the header has, and the line that it begins in."""

    line: int
    cells: list[str]


class Below(NamedTuple):
    """What a piece of a table stands below: the header, and how many lines."""

    header: tuple[str, ...]
    line: int


class Table:
    """A table that is read once, from its first row to its last."""

    def __init__(
        self,
        file: BinaryIO,
        separator: str,
        *,
        refuse: Callable[[Refusal], None],
        advance: Callable[[int], None],
        below: "Below | None" = None,
    ) -> None:
        """Read the header, unless this is a piece `below` one; `advance` hears of bytes read.

        Raises:
            Unreadable: there is no header, or a column has no name.
        """
        self._file = file
        self._separator = separator
        self._refuse = refuse
        self._advance = advance
        self._line = 0 if below is None else below.line
        self.read_rows = 0
        self._records = self._read()
        if below is not None:
            self.header = below.header
            return
        first = next(self._records, None)
        if first is None:
            raise Unreadable("The file is empty: there is no header.")
        self.header = tuple(first.cells)
        self._check_header(first.line)

    @property
    def below(self) -> "Below":
        """Where the reading stands: what the rest of the file is read by as a table of its own."""
        return Below(self.header, self._line)

    def reads(self, file: BinaryIO) -> bool:
        """Say whether it reads the bytes of this file as they are, not unpacked."""
        return self._file is file

    def column(self, name: str) -> int:
        """Return the place of the first column of this name.

        Raises:
            Unreadable: there is none.
        """
        if name not in self.header:
            # The header is not quoted: in a file without one it is a person's row.
            raise Unreadable(
                f"There is no column {name!r} among the {len(self.header)} of the header; "
                "the sample of the file shows them."
            )
        return self.header.index(name)

    def rows(self) -> Iterator[Row]:
        """Yield the rows below the header; short ones are filled with blanks.

        Raises:
            Unreadable: broken quoting or another encoding; the sentence names the line.
        """
        width = len(self.header)
        for row in self._records:
            self.read_rows += 1
            missing = width - len(row.cells)
            if missing < 0:
                reason = f"{len(row.cells)} cells for {width} columns"
                self._refuse(Refusal(line=row.line, reason=reason))
                continue
            if missing:
                row.cells.extend([""] * missing)
            yield row

    def _check_header(self, line: int) -> None:
        if len(self.header) > MOST_COLUMNS:
            raise Unreadable(f"The header in line {line} has more than {MOST_COLUMNS} columns.")
        if "" in self.header:
            place = self.header.index("") + 1
            raise Unreadable(f"Column {place} has no name in the header (line {line}).")

    def _read(self) -> Iterator[Row]:
        separator = self._separator
        while True:
            line, text = self._line + 1, self._next()
            if text is None:
                return
            if '"' in text:
                cells = self._quoted(text, line)
            else:
                cells = [cell.strip() for cell in text.rstrip("\r\n").split(separator)]
            if any(cells):
                yield Row(line, cells)

    def _quoted(self, text: str, line: int) -> list[str]:
        parts, size = [text], len(text)
        odd = text.count('"') % 2
        while odd:
            more = self._next()
            if more is None or size > LONGEST_ROW:
                raise Unreadable(f"Line {line}: a quotation mark is opened and never closed.")
            parts.append(more)
            size += len(more)
            odd ^= more.count('"') % 2
        text = "".join(parts)
        cells: list[str] = []
        opened: list[str] = []
        for piece in text.rstrip("\r\n").split(self._separator):
            if not opened and '"' not in piece:
                cells.append(piece.strip())
                continue
            # A separator within quotation marks has cut the cell: join it until they are even.
            opened.append(piece)
            odd ^= piece.count('"') % 2
            if not odd:
                cells.append(self._unquoted(self._separator.join(opened), line))
                opened = []
        return cells

    @staticmethod
    def _unquoted(cell: str, line: int) -> str:
        inner = cell[1:-1]
        whole = cell[0] == cell[-1] == '"'
        if not whole or ('"' in inner and '"' in inner.replace('""', "")):
            raise Unreadable(
                f"Line {line}: the quoting is broken. A cell with a quotation mark must stand"
                " in quotation marks as a whole, and a mark inside it is doubled."
            )
        return inner.replace('""', '"').strip()

    def _next(self) -> str | None:
        raw = self._file.readline(LONGEST_ROW + 1)
        if not raw:
            return None
        self._line += 1
        self._advance(len(raw))
        if len(raw) > LONGEST_ROW:
            raise Unreadable(f"Line {self._line} is longer than {LONGEST_ROW // 2**20} MiB.")
        if self._line == 1:
            raw = raw.removeprefix(_BOM)
        if b"\0" in raw:
            raise Unreadable(f"Line {self._line} holds a zero byte: this is no text in UTF-8.")
        try:
            return raw.decode()
        except UnicodeDecodeError as fault:
            raise Unreadable(
                f"Line {self._line} is not valid UTF-8; save the file as UTF-8 and send it again."
            ) from fault
