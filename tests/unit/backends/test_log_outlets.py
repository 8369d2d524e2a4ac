"""Where lines go: backlogs that never grow, files that are rotated, the terminal."""

import json
import logging
import threading

import pytest
import structlog

from cvf_app import metrics
from cvf_app.backends import log, log_outlets
from cvf_app.backends.log_outlets import Line, Outlet, RotatingFile, Writer

BIG = 10**6


def record(text):
    return logging.LogRecord("cv3", logging.INFO, "", 0, text, None, None)


def lines(*numbers):
    return [Line(number, f"line {number:03}", {}) for number in numbers]


def kept(path):
    """All lines of a file and its older ones, in the order of writing."""
    files = sorted(path.parent.glob(f"{path.name}.[0-9]*"), reverse=True)
    return [line for file in [*files, path] for line in file.read_text().splitlines()]


def dropped(sink, reason):
    found = metrics.REGISTRY.get_sample_value(
        "cv3_log_dropped_total", {"sink": sink, "reason": reason}
    )
    return found or 0.0


class TestOutlet:
    def test_lines_are_taken_in_order_with_rising_times(self):
        outlet = Outlet("test")
        for number in range(100):
            outlet.emit(record(str(number)))
        taken = outlet.take(60, BIG) + outlet.take(60, BIG)
        assert [line.text for line in taken] == [str(number) for number in range(100)]
        moments = [line.moment for line in taken]
        assert len(set(moments)) == 100
        assert moments == sorted(moments)

    def test_the_oldest_go_when_there_are_too_many(self):
        outlet = Outlet("test", most_lines=10)
        before = dropped("test", "full")
        for number in range(25):
            outlet.emit(record(str(number)))
        assert [line.text for line in outlet.take(99, BIG)] == [str(each) for each in range(15, 25)]
        assert dropped("test", "full") == before + 15

    def test_the_oldest_go_when_they_are_too_large(self):
        outlet = Outlet("test", most_bytes=1000)
        for _ in range(30):
            outlet.emit(record("x" * 100))
        assert outlet.waiting == 10

    def test_a_batch_has_a_bound_in_bytes_but_one_line_at_least(self):
        outlet = Outlet("test")
        for _ in range(3):
            outlet.emit(record("x" * 100))
        assert len(outlet.take(99, 10)) == 1
        assert len(outlet.take(99, 150)) == 2

    def test_many_threads_lose_nothing(self):
        outlet = Outlet("test", most_lines=BIG)

        def write(name):
            for number in range(500):
                outlet.emit(record(f"{name} {number}"))

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = [line.text.split() for line in outlet.take(BIG, BIG)]
        for name in "abcd":
            assert [int(number) for who, number in taken if who == name] == list(range(500))


class TestWriter:
    def test_what_waits_is_written_before_the_end(self):
        written = []

        def write(batch):
            written.extend(line.text for line in batch)
            batch.clear()

        writer = Writer("test", write)
        for number in range(2000):
            writer.emit(record(str(number)))
        writer.close()
        assert written == [str(number) for number in range(2000)]

    def test_whoever_writes_does_not_wait_for_a_stuck_receiver(self):
        stuck = threading.Event()

        def write(batch):
            stuck.wait(60)
            batch.clear()

        writer = Writer("test", write)
        before = dropped("test", "full")
        for number in range(log_outlets.MOST_LINES * 2):
            writer.emit(record(str(number)))
        assert dropped("test", "full") >= before + log_outlets.MOST_LINES / 2
        stuck.set()
        writer.close()

    def test_what_cannot_be_written_is_counted_at_the_end(self):
        tried = threading.Event()

        def write(_):
            tried.set()
            raise OSError(28, "No space left on device")

        writer = Writer("full", write)
        before = dropped("full", "stopped")
        writer.emit(record("lost"))
        tried.wait(30)
        writer.close()
        writer.join()
        assert dropped("full", "stopped") == before + 1


class TestRotatingFile:
    def test_old_lines_go_with_the_last_file(self, tmp_path):
        path = tmp_path / "logs" / "cv3.log"
        file = RotatingFile(path, 90, 2)
        for number in range(100):
            file.write(lines(number))
        assert sorted(one.name for one in path.parent.iterdir()) == [
            "cv3.log",
            "cv3.log.1",
            "cv3.log.2",
            "cv3.log.lock",
        ]
        assert all(one.stat().st_size <= 90 for one in path.parent.glob("cv3.log*"))
        told = kept(path)
        assert told == [f"line {number:03}" for number in range(100 - len(told), 100)]
        assert len(told) >= 19

    def test_a_batch_is_spread_over_files(self, tmp_path):
        path = tmp_path / "cv3.log"
        RotatingFile(path, 90, 50).write(lines(*range(100)))
        assert kept(path) == [f"line {number:03}" for number in range(100)]

    def test_a_line_that_is_too_long_gets_a_file_of_its_own(self, tmp_path):
        path = tmp_path / "cv3.log"
        RotatingFile(path, 20, 50).write([*lines(1), Line(0, "x" * 500, {}), *lines(2)])
        assert kept(path) == ["line 001", "x" * 500, "line 002"]

    def test_without_a_bound_it_is_never_rotated(self, tmp_path):
        path = tmp_path / "cv3.log"
        RotatingFile(path, 0, 5).write(lines(*range(500)))
        assert len(path.read_text().splitlines()) == 500
        assert not list(tmp_path.glob("cv3.log.[0-9]"))

    def test_without_older_files_it_begins_anew(self, tmp_path):
        path = tmp_path / "cv3.log"
        RotatingFile(path, 90, 0).write(lines(*range(25)))
        assert sorted(one.name for one in tmp_path.iterdir()) == ["cv3.log", "cv3.log.lock"]
        assert path.read_text().splitlines()[-1] == "line 024"

    def test_two_that_write_the_same_file_lose_nothing(self, tmp_path):
        path = tmp_path / "cv3.log"

        def write(first):
            file = RotatingFile(path, 400, 1000)
            for number in range(first, first + 300):
                file.write(lines(number))

        threads = [threading.Thread(target=write, args=(first,)) for first in (0, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(kept(path)) == [f"line {number:03}" for number in range(600)]

    def test_a_file_that_was_moved_away_is_begun_anew(self, tmp_path):
        path = tmp_path / "cv3.log"
        file = RotatingFile(path, BIG, 5)
        file.write(lines(1))
        path.rename(tmp_path / "taken")
        file.write(lines(2))
        assert path.read_text() == "line 002\n"

    def test_only_its_owner_may_read_it(self, tmp_path):
        path = tmp_path / "cv3.log"
        RotatingFile(path, BIG, 5).write(lines(1))
        assert path.stat().st_mode & 0o077 == 0

    def test_lines_stay_with_the_caller_while_the_disk_is_full(self, tmp_path):
        (tmp_path / "cv3.log").symlink_to("/dev/full")
        batch = lines(1, 2)
        with pytest.raises(OSError, match="No space"):
            RotatingFile(tmp_path / "cv3.log", 0, 5).write(batch)
        assert batch == lines(1, 2)


class TestConsole:
    @pytest.fixture
    def written(self):
        """What stands on standard error at the end of the block."""
        before = structlog.get_config()
        yield
        log.configure("cv3-test", "INFO")
        structlog.configure(**before)

    def fault(self):
        try:
            {}["data"]
        except KeyError as fault:
            return fault

    def say(self):
        console = log_outlets.console()
        log.configure("cv3-test", "INFO", [log_outlets.Tally(), console])
        fault = self.fault()
        structlog.get_logger("cv3.test").error("failed", exc_info=fault, source="a\ud800b")
        console.flush(20)

    def test_lines_are_json(self, written, capsys):  # noqa: ARG002 - it puts things back
        before = metrics.REGISTRY.get_sample_value("cv3_log_lines_total", {"level": "error"}) or 0
        self.say()
        told = json.loads(capsys.readouterr().err)
        assert told["event"] == "failed"
        after = metrics.REGISTRY.get_sample_value("cv3_log_lines_total", {"level": "error"})
        assert after == before + 1

    @pytest.mark.usefixtures("written")
    def test_a_person_at_a_terminal_gets_readable_lines(self, capsys, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        self.say()
        told = capsys.readouterr().err
        assert "failed" in told
        assert "KeyError" in told
        assert "test_log_outlets.py" in told
        assert not told.startswith("{")
