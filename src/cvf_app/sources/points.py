"""The points of a run at which a crash must do no harm, each with a name. Pure.

A run tells every point that it reaches; what is told does nothing unless a test asks for more.
`tests/faults/test_fault_points.py` kills a worker at each of them.
"""

from collections.abc import Callable
from enum import StrEnum

STAGES = ("reading", "gathering", "building", "switching", "clearing")
"""The stages that the status of a job shows, in order."""


class Point(StrEnum):
    """A moment between two steps of a run, about in the order in which they come."""

    CLAIMED = "claimed"
    SHARE_REMOVED = "share removed"
    FOLDER_CLEARED = "folder cleared"
    FILE_REMOVED = "file removed"
    BEGUN = "begun"
    READ = "read"
    RECORDED = "recorded"
    GATHERED = "gathered"
    ANNOUNCED = "announced"
    BATCH_KEPT = "batch kept"
    KEPT = "kept"
    BUILT = "built"
    RETIRED = "retired"
    SWITCHED = "switched"
    NAMED = "named"
    REPORTED = "reported"
    RELEASED = "released"
    CLEARED = "cleared"


Reached = Callable[[Point], None]


def pass_by(_: Point) -> None:
    """Let a run go on past a point."""
