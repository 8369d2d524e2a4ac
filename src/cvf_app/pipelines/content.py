"""A data file by what is in it: its rows, its documents, or its subjects.

One door for every format, packed with gzip or not. Every function takes the open file (which its
caller closes) and the kind that was found when it came; `advance` hears of the file's bytes.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

from cvf_app.errors import Invalid
from cvf_app.files.formats import FileFormat, check_kind
from cvf_app.pipelines.bcf import lines_of_bcf
from cvf_app.pipelines.carriers import Carriers
from cvf_app.pipelines.compressed import opened
from cvf_app.pipelines.expand import separator, subject_of_name
from cvf_app.pipelines.json_rows import JsonRows
from cvf_app.pipelines.model import FilePipeline, Refusal, Unreadable
from cvf_app.pipelines.objects import Batch, batches
from cvf_app.pipelines.read import Table
from cvf_app.pipelines.rows import Rows
from cvf_app.pipelines.sheet import Sheet
from cvf_app.pipelines.vcf import Vcf, lines_of
from cvf_app.subject import Subject

_Advance = Callable[[int], None]


def check_content(file: BinaryIO, name: str, kind: FileFormat) -> None:
    """Refuse a file that is not what it was taken for.

    Raises:
        Unreadable: it is empty or of another kind.
    """
    file.seek(0)
    if not file.read(4096).strip():
        raise Unreadable("The file is empty.")
    try:
        check_kind(file, name, kind)
    except Invalid as fault:
        raise Unreadable(fault.sentence) from fault


def rows_of(
    file: BinaryIO,
    kind: FileFormat,
    pipeline: FilePipeline,
    refuse: Callable[[Refusal], None],
    advance: _Advance,
) -> Rows:
    """Return the rows of a table of any kind.

    Raises:
        Unreadable: the content is broken; the sentence says where.
    """
    if kind == "xlsx":
        return Sheet(file, pipeline.sheet or "", refuse=refuse, advance=advance)
    if kind == "json":
        return JsonRows(file, refuse=refuse, advance=advance)
    if kind in ("csv", "tsv"):
        stream, told = opened(file, advance)
        return Table(stream, separator(pipeline), refuse=refuse, advance=told)
    raise Unreadable(f"Files of the kind {kind} have no rows.")


def batches_of(file: BinaryIO, advance: _Advance) -> Iterator[Batch]:
    """Yield the objects of a JSON file, some hundred KiB of them at a time.

    Raises:
        Unreadable: the content is broken; the sentence says where.
    """
    stream, told = opened(file, advance)
    return batches(stream, told)


def variants_of(file: BinaryIO, kind: Literal["vcf", "bcf"] | FileFormat, advance: _Advance) -> Vcf:
    """Return a VCF or BCF after its header.

    Raises:
        Unreadable: the content is broken; the sentence says where.
    """
    if kind == "bcf":
        return Vcf(lines_of_bcf(file))
    return Vcf(lines_of(*opened(file, advance)))


def subjects_of(
    vcf: Vcf, filename: str, enough: Callable[[], bool] | None = None
) -> Iterator[Subject]:
    """Yield parts of the subjects of a VCF; those of one subject are put together by `joined`.

    The last part of each has its attributes. With `enough` only the head is read, to where it says.

    Raises:
        Unreadable: the content is broken; the sentence says where.
    """
    return Carriers(vcf, subject_of_name(filename)).parts(enough)
