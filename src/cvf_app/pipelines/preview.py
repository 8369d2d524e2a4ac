"""What a data file would give: its head is read as a whole file is, and nothing is kept.

Promises: no file with a name is written; rows, bytes and what is shown are bounded.
"""

from collections.abc import Callable
from contextlib import ExitStack

from cvf_app.pipelines.model import Refusal
from cvf_app.pipelines.spool import Spool
from cvf_app.pipelines.take_in import Intake, Reading
from cvf_app.subject import EavValue, Subject
from cvf_app.wire import Wire, decode

SHOWN_SUBJECTS = 10
SHOWN_BYTES = 2**20
MOST_SHOWN_TYPES = 1000


class PreviewReport(Wire, frozen=True, kw_only=True):
    """What came of the head of a file; `types` has what the values of each attribute are."""

    rows: int
    subjects: int
    refused: int
    refusals: tuple[Refusal, ...]
    unmatched: dict[str, int]
    unmatched_examples: dict[str, tuple[str, ...]]
    display_names: dict[str, str]
    types: dict[str, str]
    flagged: int = 0
    flags: tuple[Refusal, ...] = ()


class Preview(Wire, frozen=True, kw_only=True):
    """The first subjects that a file would give, and the report on its head."""

    subjects: tuple[Subject, ...]
    report: PreviewReport


def preview(task: Reading, progress: Callable[[float], None]) -> Preview:
    """Read the head of a data file.

    Raises:
        Unreadable: the content is not what it should be; the sentence says where.
        Invalid: the pipelines do not fit the file.
    """
    shown: list[Subject] = []
    types: dict[str, str] = {}
    count = size = 0
    with ExitStack() as stack:
        intake = Intake(task, stack.enter_context(Spool(None)), progress, stack)
        intake.read()
        for lines in intake.wholes():
            for line in lines.splitlines():
                count += 1
                subject = decode(line, Subject)
                _note(types, subject.eav)
                size += len(line)
                if len(shown) < SHOWN_SUBJECTS and size <= SHOWN_BYTES:
                    shown.append(subject)
        report = intake.report(count)
    return Preview(
        subjects=tuple(shown),
        report=PreviewReport(
            rows=report.rows,
            subjects=report.subjects,
            refused=report.refused,
            refusals=report.refusals,
            unmatched=report.unmatched,
            unmatched_examples=report.unmatched_examples,
            display_names=report.display_names,
            types=types,
            flagged=report.flagged,
            flags=report.flags,
        ),
    )


def _note(types: dict[str, str], eav: dict[str, EavValue]) -> None:
    for name, value in eav.items():
        for one in value if isinstance(value, tuple) else (value,):
            found = _type(one)
            if types.get(name, found) != found:
                found = "mixed"
            if name in types or len(types) < MOST_SHOWN_TYPES:
                types[name] = found


def _type(value: EavValue) -> str:
    # A truth value is an integer to Python.
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"
