"""Every failure has one of six stable causes and a sentence that tells no secrets."""

import pytest

from cvf_app import errors
from cvf_app.child import ChildExited, ChildKilled, ChildRaised, LimitReached
from cvf_app.jobs.faults import fault_of
from cvf_app.jobs.handler import task_of
from cvf_app.jobs.model import JobState
from cvf_app.wire import Job
from tests.support.rail import Slow


class TestFaultOf:
    @pytest.mark.parametrize(
        ("raised", "cause"),
        [
            (errors.Invalid("Line 3 is empty."), "input"),
            (errors.NotFound("The file is gone."), "input"),
            (ChildExited(3), "exit"),
            (ChildKilled(9), "signal"),
            (errors.TimedOut("It took too long."), "timeout"),
            (TimeoutError(), "timeout"),
            (errors.StorageFull("No room."), "limit"),
            (MemoryError(), "limit"),
            (LimitReached(), "limit"),
            (errors.Unavailable("No answer."), "exception"),
            (ZeroDivisionError("secret"), "exception"),
        ],
    )
    def test_the_cause_is_a_stable_word(self, raised: Exception, cause: str) -> None:
        fault = fault_of(raised)
        assert fault.cause == cause
        assert fault.message.endswith(".")
        assert "secret" not in fault.message

    def test_of_a_surprise_the_details_tell_where_and_never_what(self) -> None:
        def spill() -> None:
            raise KeyError("secret")

        try:
            spill()
        except KeyError as raised:
            details = "\n".join(fault_of(raised).details)
        assert details.startswith("KeyError\n")
        assert "spill (" in details
        assert "secret" not in details

    def test_of_a_childs_surprise_the_frames_are_the_childs(self) -> None:
        frames = [{"name": "parse", "filename": "x.py", "lineno": 3}]
        raised = ChildRaised("KeyError", [{"exc_type": "KeyError", "frames": frames}])
        assert fault_of(raised).details == ("KeyError", "  parse (x.py:3)")

    def test_a_foreseen_failure_shows_its_sentence(self) -> None:
        assert fault_of(errors.Invalid("Line 3 is empty.")).message == "Line 3 is empty."


class TestTaskOf:
    def test_a_kind_is_named_by_its_tag(self) -> None:
        assert task_of(Slow) == "slow"

    def test_a_kind_without_a_tag_is_refused(self) -> None:
        class Untagged(Job, frozen=True, kw_only=True, tag=3):
            """A job whose tag is no text."""

        with pytest.raises(TypeError):
            task_of(Untagged)


class TestJobState:
    def test_five_states_are_ends(self) -> None:
        ends = {state.value for state in JobState if state.ended}
        assert ends == {"complete", "error", "cancelled", "lost", "cached"}
