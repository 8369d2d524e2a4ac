"""What leaves the house: `Findings` of a source in, `SourceAnswer` out, under a policy.

This is the only module that makes a `SourceAnswer`. It is pure: no clock, no store; equal
input gives an equal answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from cvf_app.groups.model import Depth
from cvf_app.groups.policy import coarser
from cvf_app.records.model import ResultDetails, SourceAnswer
from cvf_app.sources.model import Source
from cvf_app.wire import encode

MOST_IDS = 100_000
MOST_SUBJECTS = 10_000
# An answer's subjects are kept in one document, and MongoDB's documents end at 16 MB.
MOST_BYTES = 15_000_000


@dataclass(frozen=True, slots=True)
class Findings:
    """What one source found: everything, before anybody decided what may be told.

    `ids` and `documents` give at most as many as asked for, in a fixed order, and are
    only called where the policy lets their values out.
    """

    source: Source
    count: int
    ids: Callable[[int], Sequence[str]]
    documents: Callable[[int], Sequence[bytes]]
    ignored: tuple[str, ...] = ()


def nothing_found(source: Source) -> Findings:
    """Return the findings of a source that holds no subjects."""
    return Findings(source=source, count=0, ids=lambda _: (), documents=lambda _: ())


def settle(allowed: Depth, asked: Depth | None) -> Depth:
    """Return the depth of an answer: a finer request is lowered, a coarser one honoured.

    `range` is no policy yet; should one be met, it tells no more than `boolean`.
    """
    depth = allowed if asked is None else coarser(allowed, asked)
    return Depth.BOOLEAN if depth is Depth.RANGE else depth


def disclose(found: Findings, allowed: Depth, asked: Depth | None = None) -> SourceAnswer | None:
    """Reduce what a source found to what this asker may know.

    The only way from `Findings` to a `SourceAnswer`. A narrower depth never adds detail,
    so its answer can be worked out from the wider one's. Under `noAccess` it is None, and
    the source is left out of the list, so that its existence is not told. Below `list` no
    id is even read.
    """
    depth = settle(allowed, asked)
    if depth is Depth.NO_ACCESS:
        return None
    return SourceAnswer(
        source_id=found.source.source_id,
        source_name=found.source.source_name,
        source_owner=found.source.owner,
        owner_email=found.source.owner_email,
        exist=found.count > 0,
        record_count=found.count if depth.rank >= Depth.COUNT.rank else None,
        result_details=_details(found, depth),
        ignored_filters=found.ignored,
    )


def _details(found: Findings, depth: Depth) -> ResultDetails | None:
    if depth is Depth.LIST:
        subjects = [encode({"subjectId": each}) for each in found.ids(MOST_IDS)[:MOST_IDS]]
    elif depth is Depth.DETAILED_LIST:
        subjects = [bytes(each) for each in found.documents(MOST_SUBJECTS)[:MOST_SUBJECTS]]
    else:
        return None
    kept = _fitting(subjects)
    return ResultDetails(
        subjects=tuple(msgspec.Raw(each) for each in kept), truncated=len(kept) < found.count
    )


def _fitting(subjects: list[bytes]) -> list[bytes]:
    total = 0
    for place, each in enumerate(subjects):
        total += len(each) + 1
        if total > MOST_BYTES:
            return subjects[:place]
    return subjects
