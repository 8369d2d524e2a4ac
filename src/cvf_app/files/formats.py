"""Which kind of file something is: found by its content; the name must not contradict it.

Pure but for reading from the open file that is given. Text without a mark of its own is a table,
and there the name decides between commas and tabs; a picture named `.csv` is refused here, before
anything reads it. What this instance takes is checked twice: by the ending of the name and by
what was found. Only the head is read, and of a zip archive its directory.
"""

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple

from cvf_app.errors import Invalid

FileFormat = Literal["csv", "tsv", "xlsx", "json", "phenopacket", "zip", "vcf", "bcf"]
HEAD = 64 * 1024
TABLES: tuple[FileFormat, ...] = ("csv", "tsv", "xlsx", "json")
"""What a file pipeline and a remap pipeline turn into subjects; the others need none."""
VARIANTS: tuple[FileFormat, ...] = ("vcf", "bcf")
ALL_FORMATS = ("csv", "tsv", "txt", "xlsx", "json", "jsonl", "zip", "vcf", "bcf", "gz")
GZIP = b"\x1f\x8b"
_BCF = b"BCF\x02"
_BY_EXTENSION: dict[str, FileFormat] = {
    "csv": "csv",
    "txt": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "vcf": "vcf",
    "bcf": "bcf",
    "json": "phenopacket",
    "jsonl": "json",
    "ndjson": "json",
    "zip": "zip",
    "xlsx": "xlsx",
}
_TAKEN_AS: dict[FileFormat, set[str]] = {
    "csv": {"csv", "txt"},
    "tsv": {"tsv", "tab", "txt"},
    "vcf": {"vcf"},
    "bcf": {"bcf"},
    "phenopacket": {"json", "phenopacket", "jsonl", "ndjson"},
    "json": {"json", "jsonl", "ndjson"},
    "zip": {"zip"},
    "xlsx": {"xlsx"},
}
"""The entries of `Data.ValidFileFormats` of which any allows a format."""
_ARCHIVES: tuple[FileFormat, ...] = ("zip", "xlsx")
_JSON: tuple[FileFormat, ...] = ("json", "phenopacket")
_TEXT_TABLES: tuple[FileFormat, ...] = ("csv", "tsv")
_PACKED = {"gz", "bgz"}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_WORKBOOK = "xl/workbook.xml"
_OFFICE = (b"[Content_Types].xml", b"_rels/", b"xl/", b"docProps/")
# First bytes of what people send by mistake; no text begins like these.
_FOREIGN = (
    b"%PDF",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\xd0\xcf\x11\xe0",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
    b"PAR1",
)
_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_MAX_NAME = 255
_JSON_START = re.compile(rb'[\[{]\s*(?:["\[{\]}]|\Z)')
_LIST = re.compile(rb"\[\s*\{")
_JSON_TOKEN = re.compile(rb'("(?:[^"\\]|\\.)*")(\s*:\s*(?:\{|\[\s*\{)?)?|[{}\[\]]', re.DOTALL)
# Members that no flat row has. `subject` and the others are columns too, unless they hold objects.
_PACKET = {b'"metaData"', b'"meta_data"', b'"phenotypicFeatures"', b'"phenotypic_features"'}
_PACKET_OBJECTS = {
    b'"subject"',
    b'"diseases"',
    b'"interpretations"',
    b'"measurements"',
    b'"proband"',
    b'"members"',
    b'"genes"',
    b'"variants"',
}
_NAMES: dict[FileFormat, str] = {
    "csv": "a table in text form",
    "tsv": "a table in text form",
    "vcf": "a VCF",
    "bcf": "a BCF",
    "json": "a table in JSON (a list or lines of objects)",
    "phenopacket": "phenopackets in JSON",
    "zip": "a zip archive",
    "xlsx": "a spreadsheet (xlsx)",
}


class _Name(NamedTuple):
    """What a name announces: a format, if its ending is known, and whether it is compressed."""

    extension: str
    kind: FileFormat | None
    packed: bool


def label(name: str) -> str:
    """Return the last part of a name from outside, without control characters; it is never a path.

    Raises:
        Invalid: nothing is left of it.
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    clean = "".join(letter for letter in last if letter.isprintable()).strip()[-_MAX_NAME:]
    if clean in {"", ".", ".."}:
        raise Invalid("The file needs a name.", path="$.resumableFilename")
    return clean


def format_of(name: str, allowed: tuple[str, ...]) -> FileFormat:
    """Return the format that a name announces; its content has the last word.

    Raises:
        Invalid: this instance does not take such names.
    """
    taken = _taken(allowed)
    read = _read_name(name)
    known = read.kind is not None and taken & {read.extension, *_TAKEN_AS[read.kind]}
    # `x.gz` says nothing of what is in it; the content will.
    bare = read.packed and read.kind is None and "." not in read.extension and not read.extension
    if not (known or bare) or (read.packed and not taken & _PACKED):
        raise Invalid(
            "Files of this kind are not taken here; the name must end in one of: "
            f"{', '.join(sorted(taken))}.",
            path="$.resumableFilename",
        )
    return read.kind or "csv"


def check_head(head: bytes, kind: FileFormat, allowed: tuple[str, ...] = ALL_FORMATS) -> FileFormat:
    """Return what a file that was announced as one kind seems to be by its first bytes.

    Raises:
        Invalid: no format that is taken here begins like this, or the name says otherwise.
    """
    name = f"x.{_extension(kind)}"
    return _judged(_of_head(head, name), name, allowed, packed=head.startswith(GZIP))


def recognise(file: BinaryIO, name: str, allowed: tuple[str, ...] = ALL_FORMATS) -> FileFormat:
    """Return what a whole file is, by its content; the file is at its beginning afterwards.

    Raises:
        Invalid: it is nothing that is taken here, or the name says otherwise.
    """
    found = _of_file(file, name)
    packed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    return _judged(found, name, allowed, packed=packed)


def recognise_at(path: Path, name: str) -> FileFormat:
    """Return what the file at a path is, whatever this instance takes.

    Raises:
        Invalid: it is nothing that is known, or the name says otherwise.
    """
    with path.open("rb") as file:
        return recognise(file, name)


def check_kind(file: BinaryIO, name: str, kind: FileFormat) -> None:
    """Refuse a file that is not of the kind that was found when it came.

    Raises:
        Invalid: it is not.
    """
    found = _of_file(file, name if _read_name(name).kind else f"{name}.{_extension(kind)}")
    both = _TEXT_TABLES if kind in _TEXT_TABLES else (kind,)
    if found not in both:
        raise _otherwise(kind)


def _extension(kind: FileFormat) -> str:
    return next(ending for ending, known in _BY_EXTENSION.items() if known == kind)


def _otherwise(kind: FileFormat) -> Invalid:
    return Invalid(
        f"The content of this file is not {_NAMES[kind]}, whatever its name says.",
        path="$.file",
    )


def _read_name(name: str) -> _Name:
    path = PurePosixPath(name.lower())
    packed = path.suffix.lstrip(".") in _PACKED
    if packed:
        path = path.with_suffix("")
    extension = path.suffix.lstrip(".")
    return _Name(extension, _BY_EXTENSION.get(extension), packed)


def _taken(allowed: tuple[str, ...]) -> set[str]:
    return {entry.lstrip(".").lower() for entry in allowed}


def _judged(
    found: FileFormat | None, name: str, allowed: tuple[str, ...], *, packed: bool
) -> FileFormat:
    announced = _read_name(name).kind
    if found is None:
        if announced is None:
            raise Invalid("This is no kind of file that can be read here.", path="$.file")
        raise _otherwise(announced)
    # Text without a mark of its own is a table only if the name says so, or says nothing.
    unmarked = found in _TEXT_TABLES and announced not in {None, *_TEXT_TABLES}
    archive = announced is not None and (found in _ARCHIVES) != (announced in _ARCHIVES)
    if announced is not None and (unmarked or archive):
        raise _otherwise(announced)
    if packed and found != "bcf" and not _taken(allowed) & _PACKED:
        raise Invalid("This file is packed with gzip; unpack it first.", path="$.file")
    if not _taken(allowed) & _TAKEN_AS[found]:
        raise Invalid(
            f"By its content this file is {_NAMES[found]}, and such files are not taken here.",
            path="$.file",
        )
    return found


def _of_file(file: BinaryIO, name: str) -> FileFormat | None:
    file.seek(0)
    head = file.read(HEAD)
    try:
        if head.startswith(_ZIP):
            with zipfile.ZipFile(file) as archive:
                return "xlsx" if _WORKBOOK in archive.namelist() else "zip"
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        # The job that reads it says what is wrong with it.
        return _of_head(head, name)
    finally:
        file.seek(0)
    return _of_head(head, name)


def _of_head(head: bytes, name: str) -> FileFormat | None:
    if head.startswith(_ZIP):
        return "xlsx" if head[30:].startswith(_OFFICE) else "zip"
    if head.startswith(GZIP):
        head = _unpacked(head)
        if head.startswith((*_ZIP, GZIP)):
            return None
    if head.startswith(_BCF):
        return "bcf"
    wide = head.startswith(_WIDE)
    if head.startswith(_FOREIGN) or (b"\0" in head and not wide):
        return None
    # Text in another encoding goes on: the job that reads it says so with its line.
    return _table(head, name) if wide else _of_text(head, name)


def _of_text(head: bytes, name: str) -> FileFormat:
    text = head.removeprefix(_BOM)
    if text.startswith(b"##fileformat=VCF"):
        return "vcf"
    read = _read_name(name)
    start = text.lstrip()
    if _JSON_START.match(start) or (read.kind in _JSON and start[:1] in (b"{", b"[")):
        return _of_json(start, read)
    return _table(text, name)


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, HEAD)
    except zlib.error:
        # No gzip after all; a zero byte makes it nothing known.
        return b"\0"


def _table(head: bytes, name: str) -> FileFormat:
    """Tell commas from tabs: by the name, and without one that says it by the first line."""
    read = _read_name(name)
    if read.kind in _TEXT_TABLES and read.extension != "txt":
        return "tsv" if read.kind == "tsv" else "csv"
    first = head.split(b"\n", 1)[0]
    return "tsv" if first.count(b"\t") > first.count(b",") else "csv"


def _of_json(text: bytes, read: _Name) -> FileFormat:
    """Tell phenopackets from rows by the members of the first object.

    One object alone is no table (a list, lines, or an ending that says lines are), and no list of
    something else is; they are left to the reader of phenopackets, which says what is missing.
    """
    listed = _LIST.match(text) is not None
    depth, place, closed = 0, 1 if listed else 0, False
    for token in _JSON_TOKEN.finditer(text, place):
        sign = token[0]
        if token[1] is not None:
            if depth == 1 and token[2]:
                objects = token[2].rstrip()[-1:] == b"{"
                if token[1] in _PACKET or (objects and token[1] in _PACKET_OBJECTS):
                    return "phenopacket"
            depth += token[2].count(b"{") + token[2].count(b"[") if token[2] else 0
        else:
            depth += 1 if sign in b"{[" else -1
        if depth <= 0:
            place, closed = token.end(), True
            break
    lines = closed and text[place:].lstrip()[:1] == b"{"
    return "json" if listed or lines or read.extension in {"jsonl", "ndjson"} else "phenopacket"
