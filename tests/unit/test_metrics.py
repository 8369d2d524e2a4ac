"""The numbers: what a call of a service counts as, and who keeps none."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cvf_app import metrics
from cvf_app.records.compile import kind_of
from cvf_app.records.model import RecordQuery
from cvf_app.wire import convert

ROOT = Path(__file__).parents[2]
# What runs in child processes of jobs and of dry runs; a file of numbers for each would pile up.
OF_CHILDREN = (
    ("cvf_app.pipelines.attributes", "check_units"),
    ("cvf_app.pipelines.preview", "preview"),
    ("cvf_app.pipelines.take_in", "take_in"),
    ("cvf_app.sources.building", "build_generation"),
    ("cvf_app.sources.converting", "convert_stored"),
)


def calls(outcome):
    labels = {"service": "test", "outcome": outcome}
    return metrics.REGISTRY.get_sample_value("cv3_service_calls_total", labels) or 0


def kept_in(folder):
    """The environment of a process that keeps its numbers in a folder."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    return kept | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}


def run(folder, program):
    """Run a program that keeps its numbers in a folder; return what it prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=kept_in(folder), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


class TestServiceCall:
    @pytest.mark.parametrize(
        ("raised", "outcome"),
        [(TimeoutError, "timeout"), (asyncio.CancelledError, "cancelled"), (KeyError, "failed")],
    )
    def test_a_call_that_raises_counts_by_what_it_raised(self, raised, outcome):
        before = calls(outcome)
        with pytest.raises(raised), metrics.service_call("test"):
            raise raised
        assert calls(outcome) == before + 1

    def test_an_answer_that_is_raised_is_none_the_less_an_answer(self):
        well, failed = calls("ok"), calls("failed")
        with pytest.raises(KeyError), metrics.service_call("test", answers=(LookupError,)):
            raise KeyError
        assert (calls("ok"), calls("failed")) == (well + 1, failed)

    def test_any_other_is_well_unless_the_caller_says_otherwise(self):
        well, failed = calls("ok"), calls("failed")
        with metrics.service_call("test"):
            pass
        with metrics.service_call("test") as call:
            call.outcome = "failed"
        assert (calls("ok"), calls("failed")) == (well + 1, failed + 1)


class TestSeveralProcesses:
    def test_counters_add_up_and_gauges_are_of_the_living(self, tmp_path):
        program = (
            "import os; from cvf_app import metrics; metrics.count_request('/a', 'GET', 200, 1);"
            "metrics.updates_open.inc(); metrics.subjects.set(7); print(os.getpid())"
        )
        first = int(run(tmp_path, program))
        run(tmp_path, program)
        metrics.forget_process(tmp_path, first)
        told = run(
            tmp_path,
            "from cvf_app import metrics; print(metrics.exposition().decode())",
        ).splitlines()
        assert 'cv3_requests_total{method="GET",route="/a",status="200"} 2.0' in told
        assert "cv3_updates_open 1.0" in told
        assert "cv3_subjects 7.0" in told

    def test_the_dead_leave_one_file_of_a_kind(self, tmp_path):
        program = (
            "import os; from cvf_app import metrics; metrics.count_request('/a', 'GET', 200, 1);"
            "metrics.updates_open.inc(); print(os.getpid())"
        )
        for _ in range(3):
            metrics.forget_process(tmp_path, int(run(tmp_path, program)))
            metrics.forget_process(tmp_path, 1)  # of which nothing is there
        kept = sorted(one.name for one in tmp_path.iterdir())
        assert kept == ["counter_0.db", "histogram_0.db", "lock"]
        told = run(tmp_path, "from cvf_app import metrics; print(metrics.exposition().decode())")
        assert 'cv3_requests_total{method="GET",route="/a",status="200"} 3.0' in told
        assert 'cv3_request_seconds_bucket{le="1.0",route="/a"} 3.0' in told
        assert 'cv3_request_seconds_count{route="/a"} 3.0' in told
        assert "cv3_updates_open 0.0" in told

    def test_a_file_that_breaks_off_does_not_stop_the_guard(self, tmp_path):
        program = (
            "import os; from cvf_app import metrics; metrics.count_request('/a', 'GET', 200, 1);"
            "print(os.getpid())"
        )
        pid = int(run(tmp_path, program))
        with (tmp_path / f"counter_{pid}.db").open("r+b") as file:
            file.truncate(300)
        metrics.forget_process(tmp_path, pid)
        assert "cv3_requests" in run(
            tmp_path, "from cvf_app import metrics; print(metrics.exposition().decode())"
        )

    def test_emptying_makes_the_folder_and_removes_numbers_alone(self, tmp_path):
        folder = tmp_path / "a" / "metrics"
        metrics.empty(folder)
        (folder / "counter_1.db").touch()
        (folder / "other").touch()
        metrics.empty(folder)
        assert [one.name for one in folder.iterdir()] == ["other"]
        assert folder.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize(("module", "function"), OF_CHILDREN)
    def test_child_processes_keep_no_numbers(self, tmp_path, module, function):
        order = json.dumps({"module": module, "function": function, "task": {"no": "task"}})
        command = [sys.executable, "-c", "from cvf_app.in_child import work; work()"]
        with subprocess.Popen(
            command, env=kept_in(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            child.stdin.write(order.encode() + b"\n")
            child.stdin.flush()
            answer = json.loads(child.stdout.readline())
        assert answer["error"] == "Invalid"  # it was imported, and looked at its task
        assert list(tmp_path.iterdir()) == []


class TestKind:
    @pytest.mark.parametrize(
        ("query", "kind"),
        [
            ({}, "everybody"),
            ({"advanced": {"granularity": "count"}}, "everybody"),
            ({"hpo": [{"terms": ["HP:0001250"]}]}, "hpo"),
            ({"subject": {"gender": "male"}}, "subject"),
            ({"subject": {"gender": "male"}, "hpo": [{"terms": ["HP:0001250"]}]}, "mixed"),
        ],
    )
    def test_a_query_is_of_the_kind_that_it_filters(self, query, kind):
        assert kind_of(convert(query, RecordQuery)) == kind
