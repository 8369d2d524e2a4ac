"""What came of the files of a job: the report, and every refused row, kept until the job goes.

A report is a folder of its own, named by the job: `report.json`, and for each file with refusals
their lines as JSON (`0.jsonl`, …, by the number of the file). It takes its place whole, by a
rename, and is removed with its job, with its source, or after `KEPT_DAYS`.
"""

import csv
import io
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from cvf_app.errors import NotFound
from cvf_app.files.place import room
from cvf_app.ids import SourceId
from cvf_app.jobs.model import JobId
from cvf_app.jobs.service import Jobs
from cvf_app.loops import in_thread
from cvf_app.pipelines.model import Refusal
from cvf_app.pipelines.take_in import Report
from cvf_app.sources.model import FileReport, IngestReport, KeptFile
from cvf_app.sources.service import Sources
from cvf_app.wire import decode, encode

KEPT_DAYS = 30
SHOWN_REFUSALS = 100
_LINES_AT_ONCE = 1000
_SECONDS_A_DAY = 86_400
_REPORT = "report.json"
_NONE = "There is no such report."
# A spreadsheet would take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def refusals_of(folder: Path, number: int) -> Path:
    """Return where the refusals of a report's file stand, by its number."""
    return folder / f"{number}.jsonl"


def report_of(
    source_id: SourceId, job_id: JobId, found: Sequence[tuple[KeptFile, Report]]
) -> IngestReport:
    """Put the reports of the files of a job together."""
    files = tuple(
        FileReport(
            data_file_id=file.data_file_id,
            filename=file.filename,
            rows=report.rows,
            subjects=report.subjects,
            refused=report.refused,
            refusals=report.refusals[:SHOWN_REFUSALS],
            flagged=report.flagged,
            flags=report.flags[:SHOWN_REFUSALS],
            unmatched=report.unmatched,
            unmatched_examples=report.unmatched_examples,
        )
        for file, report in found
    )
    return IngestReport(
        job_id=job_id,
        source_id=source_id,
        rows=sum(each.rows for each in files),
        subjects=sum(each.subjects for each in files),
        refused=sum(each.refused for each in files),
        flagged=sum(each.flagged for each in files),
        files=files,
    )


class Reports:
    """The kept reports."""

    def __init__(self, sources: Sources, jobs: Jobs) -> None:
        """Keep them in the place of the sources, as long as these jobs are there."""
        self._sources = sources
        self._jobs = jobs

    async def get(self, source_id: SourceId, job_id: JobId) -> IngestReport:
        """Return the report of a job of a source.

        Raises:
            NotFound: there is none, or none any more.
        """
        folder = await self._folder(source_id, job_id)
        return decode(await in_thread(_content, folder / _REPORT), IngestReport)

    async def refusals(self, source_id: SourceId, job_id: JobId) -> Iterator[bytes]:
        """Return all refused rows as pieces of a CSV file; take each piece in a thread.

        Raises:
            NotFound: there is no such report.
        """
        report = await self.get(source_id, job_id)
        return _as_csv(self._sources.reports_folder(source_id) / job_id, report)

    async def clean_up(self) -> None:
        """Remove reports that are old or whose job is gone; repeatable."""
        place = self._sources.files.workspace
        for folder in await in_thread(_all, place.root / "reports"):
            if await in_thread(_is_old, folder) or not await self._is_there(JobId(folder.name)):
                await in_thread(place.clear, folder)

    async def _folder(self, source_id: SourceId, job_id: JobId) -> Path:
        try:
            job = await self._jobs.get(job_id)
        except NotFound as fault:
            raise NotFound(_NONE) from fault
        if job.args.get("sourceId") != source_id:
            raise NotFound(_NONE)
        return self._sources.reports_folder(source_id) / job.job_id

    async def _is_there(self, job_id: JobId) -> bool:
        try:
            await self._jobs.get(job_id)
        except NotFound:
            return False
        return True


def write_report(folder: Path, report: IngestReport) -> None:
    """Write a report beside its refusals; files without any are removed."""
    with room():
        for path in folder.glob("*.jsonl"):
            if path.stat().st_size == 0:
                path.unlink()
        (folder / _REPORT).write_bytes(encode(report))


def _as_csv(folder: Path, report: IngestReport) -> Iterator[bytes]:
    yield _rows([("file", "line", "reason")])
    for number, file in enumerate(report.files):
        try:
            lines = refusals_of(folder, number).open("rb")
        except FileNotFoundError:
            continue
        with lines:
            while some := [decode(line, Refusal) for line in islice(lines, _LINES_AT_ONCE)]:
                yield _rows([(_where(file, each), str(each.line), each.reason) for each in some])


def _where(file: FileReport, refusal: Refusal) -> str:
    """Return the file's name, with the place in a file that has no rows."""
    return f"{file.filename}, {refusal.place}" if refusal.place else file.filename


def _rows(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue().encode()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise NotFound(_NONE) from fault


def _all(parent: Path) -> list[Path]:
    return [path for path in parent.glob("*/*") if path.is_dir()]


def _is_old(folder: Path) -> bool:
    try:
        return folder.stat().st_mtime < time.time() - KEPT_DAYS * _SECONDS_A_DAY
    except FileNotFoundError:
        return False
