"""A crew: results in order, faults as they were met, and no member outlives its maker."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvf_app.crew import Crew, MemberFault
from cvf_app.errors import Invalid


def worker(setting: bytes) -> Callable[[bytes], bytes]:
    """Become a member that answers, waits or fails as a piece says."""

    def work(piece: bytes) -> bytes:
        match piece:
            case b"memory":
                raise MemoryError
            case b"full":
                raise OSError(errno.ENOSPC, "full")
            case b"wrong":
                raise KeyError("a secret")
            case b"killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"slow":
                time.sleep(0.2)
            case b"who":
                return str(os.getpid()).encode()
        return setting + piece

    return work


class TestCrew:
    def test_results_come_in_the_order_of_the_pieces(self) -> None:
        pieces = [b"slow" if n % 7 == 0 else str(n).encode() * 1000 * n for n in range(40)]
        with Crew(worker, b"x", 2) as crew:
            assert list(crew.map(pieces)) == [b"x" + piece for piece in pieces]
            assert list(crew.map([])) == []
            assert list(crew.map([b"again"])) == [b"xagain"]

    @pytest.mark.parametrize(
        ("piece", "kind"),
        [
            (b"memory", MemoryError),
            (b"killed", MemoryError),
            (b"full", OSError),
            (b"wrong", MemberFault),
        ],
    )
    def test_a_fault_of_a_member_is_raised(self, piece: bytes, kind: type[Exception]) -> None:
        with Crew(worker, b"", 2) as crew, pytest.raises(kind) as fault:
            list(crew.map([b"1", piece, b"2"]))
        assert "secret" not in str(fault.value)

    def test_a_fault_of_the_pieces_comes_after_the_results_before_it(self) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"slow"
            yield b"2"
            raise Invalid("enough")

        with Crew(worker, b"", 2) as crew:
            results = crew.map(pieces())
            assert [next(results), next(results)] == [b"slow", b"2"]
            with pytest.raises(Invalid, match="enough"):
                next(results)

    def test_members_end_with_their_maker(self) -> None:
        code = (
            "import sys, time\n"
            "from cvf_app.crew import Crew\n"
            "from tests.unit.test_crew import worker\n"
            "crew = Crew(worker, b'', 2)\n"
            "print(*(pid.decode() for pid in crew.map([b'who'] * 9)), flush=True)\n"
            "time.sleep(60)\n"
        )
        maker = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
            stdout=subprocess.PIPE,
        )
        assert maker.stdout is not None
        pids = {int(pid) for pid in maker.stdout.readline().split()}
        maker.kill()
        maker.wait()
        maker.stdout.close()
        while any(_lives(pid) for pid in pids):
            time.sleep(0.01)
        assert pids


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
