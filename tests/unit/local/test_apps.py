"""Which processes CV3_DUTIES and CV3_WORKERS ask for, and where they listen."""

from pathlib import Path

import pytest

from cvf_app.duties import DUTIES, Duty
from cvf_app.errors import Invalid
from cvf_app.local.apps import SERVING, Files, apps, groups, named

FIRST = ("127.0.0.1", 5000)
FILES = Files(log=Path("/a/hypercorn.log"), pid=Path("/a/hypercorn.pid"))


def made(environ):
    return [
        child
        for group in groups(environ, FIRST)
        for child in apps(Path("/c.json"), FILES, group, environ, ready="/health/live")
    ]


class TestGroups:
    def test_nothing_named_is_one_process_with_everything(self):
        (group,) = groups({}, FIRST)
        assert (group.name, group.duties, group.workers, group.bind) == ("app", "", 1, FIRST)

    @pytest.mark.parametrize("text", ["query,record-compiler", " query , record-compiler "])
    def test_commas_join_duties_in_one_process(self, text):
        (group,) = groups({"CV3_DUTIES": text}, FIRST)
        assert (group.name, group.duties) == ("query+record-compiler", "query,record-compiler")

    def test_words_are_processes_and_those_with_pages_listen_one_after_the_other(self):
        found = groups({"CV3_DUTIES": "scheduler admin query", "CV3_WORKERS": "2"}, FIRST)
        assert [(each.name, each.bind, each.workers) for each in found] == [
            ("scheduler", None, 1),
            ("admin", FIRST, 2),
            ("query", ("127.0.0.1", 5001), 2),
        ]

    def test_an_address_of_its_own_may_be_given(self):
        environ = {"CV3_DUTIES": "admin query", "CV3_BIND_QUERY": "0.0.0.0:80"}
        assert [each.bind for each in groups(environ, FIRST)] == [FIRST, ("0.0.0.0", 80)]

    def test_the_duties_with_pages_are_those_of_the_table(self):
        serving = {duty.value for duty, brings in DUTIES.items() if brings.blueprints}
        assert serving | {Duty.EXPORTER.value} == SERVING

    @pytest.mark.parametrize(
        "environ",
        [
            {"CV3_WORKERS": "0"},
            {"CV3_WORKERS": "65"},
            {"CV3_WORKERS": "two"},
            {"CV3_DUTIES": "query query"},
            {"CV3_DUTIES": "admin query", "CV3_BIND_QUERY": "127.0.0.1:5000"},
            {"CV3_DUTIES": "admin query", "CV3_BIND_QUERY": "5000"},
        ],
    )
    def test_what_cannot_be_is_refused(self, environ):
        with pytest.raises(Invalid):
            groups(environ, FIRST)


class TestApps:
    def test_one_process_has_the_published_names(self):
        (child,) = made({})
        assert (child.name, child.log, child.pid_file) == ("app", FILES.log, FILES.pid)
        assert child.command[-2:] == ("--pid", "/a/hypercorn.pid")

    def test_several_have_a_pid_file_each(self):
        assert [str(each.pid_file) for each in made({"CV3_WORKERS": "2"})] == [
            "/a/hypercorn-app-1.pid",
            "/a/hypercorn-app-2.pid",
        ]
        (child,) = made({"CV3_DUTIES": "scheduler"})
        assert str(child.pid_file) == "/a/hypercorn-scheduler.pid"
        assert str(child.log) == "/a/hypercorn-scheduler.log"

    def test_a_process_without_pages_has_its_private_socket_alone(self):
        (child,) = made({"CV3_DUTIES": "scheduler"})
        assert "fd://{fd}" not in child.command
        assert child.private

    def test_the_time_limit_is_that_of_requests_and_jobs(self):
        (child,) = made({"CV3_GRACEFUL_TIMEOUT": "7"})
        assert child.environment["CV3_GRACEFUL_TIMEOUT"] == "7"
        assert child.command[child.command.index("--graceful-timeout") + 1] == "7"
        with pytest.raises(Invalid):
            made({"CV3_GRACEFUL_TIMEOUT": "long"})

    def test_output_of_a_container_stays_where_it_is(self):
        assert named(Path("/dev/stderr"), "query") == Path("/dev/stderr")
