"""Which kind of file something is: by its name, and by its first bytes, which must agree.

Pure. A picture named `.csv` is refused here, before anything reads it.
"""

from pathlib import PurePosixPath
from typing import Literal

from cvf_app.errors import Invalid

FileFormat = Literal["csv", "tsv", "vcf", "phenopacket", "zip", "xlsx"]
HEAD = 4096
_BY_EXTENSION: dict[str, FileFormat] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "vcf": "vcf",
    "json": "phenopacket",
    "zip": "zip",
    "xlsx": "xlsx",
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_MAX_NAME = 255
_WIDE = (b"\xff\xfe", b"\xfe\xff")


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
    """Return the format that a file's extension announces.

    Raises:
        Invalid: this instance does not take it.
    """
    extension = PurePosixPath(name).suffix.lstrip(".").lower()
    found = _BY_EXTENSION.get(extension)
    taken = {entry.lstrip(".").lower() for entry in allowed}
    if found is None or not taken & {extension, found}:
        raise Invalid(
            "Files of this kind are not taken here; the name must end in one of: "
            f"{', '.join(sorted(taken))}.",
            path="$.resumableFilename",
        )
    return found


def check_head(head: bytes, kind: FileFormat) -> None:
    """Refuse a file whose first bytes are not those of its format.

    Raises:
        Invalid: they are not.
    """
    if not _fits(head, kind):
        raise Invalid(
            f"The content of this file is not {_NAMES[kind]}, whatever its name says.",
            path="$.file",
        )


_NAMES: dict[FileFormat, str] = {
    "csv": "a table in text form",
    "tsv": "a table in text form",
    "vcf": "a VCF",
    "phenopacket": "JSON",
    "zip": "a zip archive",
    "xlsx": "a spreadsheet",
}


def _fits(head: bytes, kind: FileFormat) -> bool:
    if kind in ("zip", "xlsx"):
        return head.startswith(_ZIP)
    if head.startswith((*_ZIP, b"%PDF", b"\x1f\x8b")):
        return False
    if kind in ("csv", "tsv"):
        # Text in another encoding goes on: the job that reads it says so with its line.
        return b"\0" not in head or head.startswith(_WIDE)
    if kind == "vcf":
        return head.startswith(b"##fileformat=VCF")
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
