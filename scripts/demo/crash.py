"""A large ingest whose worker is killed twice: exact counts at the end, flat memory throughout.

Starts a fresh local instance in a temporary folder. Two sources first take in a thousand people
each; then the one is given the small number of phenopackets, undisturbed, and the other the large
number, while the app is killed (KILL) twice between 20 and 80 % of the job. Until a job is done
its source answers the thousand; afterwards all, exactly, and the other source is as it was. The
thousand are among the many, so that the ids of two files have to be joined on the way.

Memory is the proportional share (PSS) of the guard, the app and the app's children, summed every
0.2 s; the stand-ins for database, broker and identity provider do not count. Exits 1 on any breach.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src")]

from cvf_app.console.failures import Failure, NotReached  # noqa: E402 - after the path above
from cvf_app.console.sample import phenopackets  # noqa: E402
from cvf_app.console.server import Server  # noqa: E402
from cvf_app.console.session import Sessions  # noqa: E402
from cvf_app.local.guard import GuardStatus  # noqa: E402
from cvf_app.local.layout import Layout, read  # noqa: E402

T = TypeVar("T")
PRIOR = 1000
KILL_AT = (0.25, 0.6)
KILLED_BETWEEN = (0.2, 0.8)
MOST_MB = 300.0
MOST_RATIO = 1.2
MOST_SECONDS = 350.0
SAMPLE_SECONDS = 0.2
PATIENCE_SECONDS = 30.0
DYING_SECONDS = 2.0
LEFTOVERS = (
    "*.subjects",
    "*.stored",
    "*.spool",
    "*.part",
    "*.marks",
    "joined.sqlite",
    ".*-*",
    "run-*",
)


class Breach(Exception):
    """Something did not hold so that going on makes no sense."""


class Instance:
    """A fresh local instance in a folder of its own, and the command line that talks to it."""

    def __init__(self, folder: Path) -> None:
        """Use this folder; nothing is started yet."""
        self.layout = Layout(folder / "instance")
        self.env = dict(os.environ)
        if sys.prefix != sys.base_prefix:
            self.env.setdefault("CV3_VENV", sys.prefix)
        self.env |= {
            "XDG_CONFIG_HOME": str(folder / "config"),
            "CV3_DATA": str(self.layout.folder),
            "PYTHONPATH": str(ROOT / "src"),
        }
        for name in ("CV3_CONFIG", "CV3_SERVER", "CV3_BIND"):
            self.env.pop(name, None)

    def run(self, *command: str) -> str:
        """Run a command in the checkout and return what it printed; a failure ends it all."""
        print(f"$ {' '.join(command)}", flush=True)
        done = subprocess.run(
            command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Breach(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def cvf(self, *words: str) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run `cvf … --json` and return what it printed."""
        printed = self.run(sys.executable, "-m", "cvf_app.console", *words, "--json")
        return json.loads(printed) if printed.strip() else None

    def up(self) -> None:
        """Make and start it, and log in."""
        self.run("./CafeVariome3.sh", "local", "--data", str(self.layout.folder))
        self.cvf("login")

    def stop(self) -> None:
        """Stop all its processes."""
        command = ["./CafeVariome3.sh", "stop", "--data", str(self.layout.folder)]
        subprocess.run(command, cwd=ROOT, env=self.env, check=False)

    def server(self) -> Server:
        """Return the instance as its administrator asks it."""
        sessions = Sessions(Path(self.env["XDG_CONFIG_HOME"]) / "cafe-variome")
        session = sessions.read()
        if session is None:
            raise Breach("cvf login kept no session")
        address = session.server
        return Server(address, lambda anew: sessions.token(address, anew=anew))

    def app(self) -> int | None:
        """Return the process id of the app, if it runs."""
        told = read(self.layout.status, GuardStatus)
        for child in told.children if told else ():
            if child.name == "app" and child.process is not None:
                return child.process.pid
        return None

    def guard(self) -> int | None:
        """Return the process id of the guard, if it runs."""
        told = read(self.layout.status, GuardStatus)
        return told.guard.pid if told else None


def descendants(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    found = [pid]
    for each in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found += [int(word) for word in children.read_text().split()]
    return found


def lives(pid: int) -> bool:
    """Say whether a process is there and not only waits for somebody to hear that it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def share_of(pid: int) -> tuple[float, float]:
    """Return the proportional and the whole resident memory of a process, in MB."""
    sizes = {"Pss:": 0.0, "Rss:": 0.0}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(" ")
            if name in sizes:
                sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    return sizes["Pss:"], sizes["Rss:"]


@dataclass
class Peak:
    """The most memory that was seen at one moment, in MB, and where it was."""

    pss: float = 0.0
    rss: float = 0.0
    guard: float = 0.0
    app: float = 0.0
    children: float = 0.0
    at: str = ""


class Memory(threading.Thread):
    """Looks at the memory of guard, app and the app's children again and again."""

    def __init__(self, instance: Instance) -> None:
        """Watch this instance; `start` begins."""
        super().__init__(daemon=True)
        self._instance = instance
        self._over = threading.Event()
        self.doing = ""
        self.peak = Peak()
        self.looks = 0

    def run(self) -> None:
        """Look until the end."""
        while not self._over.wait(SAMPLE_SECONDS):
            self._look()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    def _look(self) -> None:
        guard, app = self._instance.guard(), self._instance.app()
        if guard is None:
            return
        guards = share_of(guard)
        tree = [share_of(pid) for pid in (descendants(app) if app else [])] or [(0.0, 0.0)]
        pss = guards[0] + sum(each[0] for each in tree)
        self.looks += 1
        if pss > self.peak.pss:
            rss = guards[1] + sum(each[1] for each in tree)
            inside = sum(each[0] for each in tree[1:])
            self.peak = Peak(
                pss, max(rss, self.peak.rss), guards[0], tree[0][0], inside, self.doing
            )


@dataclass(frozen=True)
class Data:
    """A file of phenopackets, one a line, and what is known of the people in it."""

    path: Path
    people: int
    women: int

    @classmethod
    def make(cls, path: Path, people: int) -> "Data":
        """Write so many; the first thousand of a larger number are the same thousand."""
        women = 0
        with path.open("w", encoding="utf-8") as out:
            for packet in phenopackets(people, seed=20261121):
                women += packet["subject"]["sex"] == "FEMALE"
                out.write(json.dumps(packet, separators=(",", ":")) + "\n")
        return cls(path, people, women)


@dataclass(frozen=True)
class Figures:
    """What one run showed."""

    people: int
    attempts: int
    upload_seconds: float
    last_seconds: float
    whole_seconds: float
    peak: Peak
    kills: tuple[float, ...]

    @property
    def speed(self) -> float:
        """Subjects per second from the first byte sent to the answer, without what was killed."""
        return self.people / (self.upload_seconds + self.last_seconds)


def insist(call: Callable[[], T]) -> T:
    """Ask again while the app is being started anew."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except (NotReached, Failure) as fault:
            if time.monotonic() > until:
                raise Breach(f"the instance does not answer any more: {fault}") from fault
            time.sleep(SAMPLE_SECONDS)


class Run:
    """The course of the demonstration over one instance."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        """Begin with an instance that is up."""
        self._instance = instance
        self._folder = folder
        self._server = instance.server()
        self._user = instance.cvf("whoami")["userId"]
        self._begin = time.monotonic()
        self.wrong: list[str] = []

    def source(self, name: str, prior: Data) -> str:
        """Make a source whose counts may be asked for, with the prior people in it."""
        source_id: str = self._instance.cvf("sources", "create", name)["sourceId"]
        words = ["groups", "create", name, "--policy", "count", "--user", self._user]
        self._instance.cvf(*words, "--source", source_id)
        self._instance.cvf("upload", name, str(prior.path))
        self._instance.cvf("ingest", name)
        self.holds(name, source_id, prior, "before")
        return source_id

    def holds(self, name: str, source_id: str, data: Data, when: str) -> None:
        """Check that a source answers exactly these people."""
        for query, wanted in (({}, data.people), ({"subject": {"gender": "female"}}, data.women)):
            found = insist(lambda asked=query: self._count(asked, source_id))  # type: ignore[misc]
            self.check(found == wanted, f"{name} {when}: {wanted} wanted, {found} counted: {query}")

    def check(self, good: bool, sentence: str) -> None:  # noqa: FBT001 - it is what is said
        """Note a breach."""
        if not good:
            print(f"BREACH: {sentence}", flush=True)
            self.wrong.append(sentence)

    def take_in(
        self, name: str, source_id: str, prior: Data, data: Data, kill_at: tuple[float, ...]
    ) -> Figures:
        """Upload and ingest a file, killing the app at these shares of the job's progress."""
        memory = Memory(self._instance)
        memory.start()
        memory.doing = "upload"
        begin = time.monotonic()
        self._instance.cvf("upload", name, str(data.path))
        uploaded = began = time.monotonic()
        job_id = self._instance.cvf("ingest", name, "--no-wait")["jobId"]
        waiting, attempt = list(kill_at), 1
        kills: list[float] = []
        for job in self._watch(job_id):
            memory.doing = job.get("stage", "")
            if job["attempts"] != attempt:
                attempt, began = job["attempts"], time.monotonic()
            ready = job["state"] == "running" and attempt == len(kills) + 1
            if waiting and ready and job["progress"] >= waiting[0]:
                waiting.pop(0)
                kills.append(job["progress"])
                self._kill(name, job)
                self.holds(name, source_id, prior, f"after kill {len(kills)}")
        ended = time.monotonic()
        job = insist(lambda: self._server.get(f"/jobs/{job_id}"))
        memory.doing = "query"
        self.holds(name, source_id, data, "in the end")
        memory.end()
        self._judge(name, job, kills, kill_at)
        uploads = self._instance.layout.uploads
        left = [
            str(path.relative_to(uploads)) for each in LEFTOVERS for path in uploads.rglob(each)
        ]
        self.check(not left, f"{name}: half-made files are left: {left[:5]}")
        return Figures(
            people=data.people,
            attempts=job["attempts"],
            upload_seconds=uploaded - begin,
            last_seconds=ended - began,
            whole_seconds=ended - begin,
            peak=memory.peak,
            kills=tuple(kills),
        )

    def _judge(
        self, name: str, job: dict[str, Any], kills: list[float], kill_at: tuple[float, ...]
    ) -> None:
        wanted = len(kill_at) + 1
        seen = {entry["attempt"] for entry in job["status"] if "attempt" in entry}
        told = f"{job['state']}, attempts {job['attempts']}, in its history {sorted(seen)}"
        print(f"{name}: the job is {told}", flush=True)
        self.check(job["state"] == "complete", f"{name}: the job ended as {told}")
        self.check(job["attempts"] == wanted, f"{name}: {wanted} attempts wanted: {told}")
        self.check(seen == set(range(1, wanted + 1)), f"{name}: attempts are missing: {told}")
        self.check(len(kills) == len(kill_at), f"{name}: {len(kills)} kills, not {len(kill_at)}")
        low, high = KILLED_BETWEEN
        self.check(all(low <= at <= high for at in kills), f"{name}: kills at {kills}")

    def _watch(self, job_id: str) -> Iterator[dict[str, Any]]:
        while True:
            job: dict[str, Any] = insist(lambda: self._server.get(f"/jobs/{job_id}"))
            if job["state"] not in ("waiting", "running"):
                return
            yield job
            if time.monotonic() - self._begin > MOST_SECONDS:
                raise Breach(f"not over after {MOST_SECONDS:.0f} s")
            time.sleep(SAMPLE_SECONDS)

    def _kill(self, name: str, job: dict[str, Any]) -> None:
        """Kill the app, and see that its children die with it and that the guard starts another."""
        app = self._instance.app()
        if app is None:
            raise Breach("there is no app to kill")
        tree = descendants(app)
        os.kill(app, signal.SIGKILL)
        told = f"killed at {job['progress']:.0%} ({job.get('stage', '')})"
        print(f"{name}: app {app} with {len(tree) - 1} children {told}", flush=True)
        until = time.monotonic() + PATIENCE_SECONDS
        while self._instance.app() in (app, None):
            if time.monotonic() > until:
                raise Breach("the guard starts no other app")
            time.sleep(SAMPLE_SECONDS)
        until = time.monotonic() + DYING_SECONDS
        while (left := [pid for pid in tree if lives(pid)]) and time.monotonic() < until:
            time.sleep(SAMPLE_SECONDS)
        self.check(not left, f"children outlived the app: {left}")

    def _count(self, query: dict[str, Any], source_id: str) -> int | str:
        """Return the count, or what was answered in its place."""
        body = json.dumps(query | {"sources": {"sources": [source_id]}}).encode()
        answer = self._server.call("POST", "/record/", body=body, headers={"Prefer": "wait=30"})
        found = [one for response in answer["responses"] for one in response["messageData"]]
        if len(found) == 1 and "recordCount" in found[0]:
            count: int = found[0]["recordCount"]
            return count
        return json.dumps(answer)


def show(instance: Instance, folder: Path, subjects: int, small: int) -> int:
    """Run all of it, print the table, and return the exit status."""
    begin = time.monotonic()
    instance.up()
    run = Run(instance, folder)
    prior = Data.make(folder / "prior.json", PRIOR)
    few = Data.make(folder / "few.json", small)
    many = Data.make(folder / "many.json", subjects)
    sources = {name: run.source(name, prior) for name in ("few", "many")}
    first = run.take_in("few", sources["few"], prior, few, ())
    run.holds("many", sources["many"], prior, "after the other run")
    second = run.take_in("many", sources["many"], prior, many, KILL_AT)
    run.holds("few", sources["few"], few, "after the other run")

    ratio = second.peak.pss / first.peak.pss
    run.check(ratio <= MOST_RATIO, f"the peak grew {ratio:.2f} times (at most {MOST_RATIO})")
    for each in (first, second):
        pss = each.peak.pss
        run.check(pss < MOST_MB, f"{pss:.0f} MB at {each.people} (below {MOST_MB:.0f})")
    lines: list[tuple[str, Callable[[Figures], str]]] = [
        ("subjects, counted exactly", lambda one: f"{one.people:,}"),
        ("killed at", lambda one: ", ".join(f"{at:.0%}" for at in one.kills) or "-"),
        ("attempts", lambda one: str(one.attempts)),
        ("upload, s", lambda one: f"{one.upload_seconds:.1f}"),
        ("last attempt, s", lambda one: f"{one.last_seconds:.1f}"),
        ("with kills and waits, s", lambda one: f"{one.whole_seconds:.1f}"),
        ("subjects per s, upload + last attempt", lambda one: f"{one.speed:,.0f}"),
        ("peak memory (PSS), MB", lambda one: f"{one.peak.pss:.0f}"),
        ("  of it guard", lambda one: f"{one.peak.guard:.0f}"),
        ("  of it app", lambda one: f"{one.peak.app:.0f}"),
        ("  of it children of the app", lambda one: f"{one.peak.children:.0f}"),
        ("  in the stage", lambda one: one.peak.at),
        ("RSS at that moment, MB", lambda one: f"{one.peak.rss:.0f}"),
    ]
    print()
    for title, cell in lines:
        print(f"{title:<40}{cell(first):>14}{cell(second):>14}")
    print(f"{'peak, times that of the small run':<40}{'':>14}{ratio:>14.2f}")
    print(f"{time.monotonic() - begin:.0f} s in all; {len(run.wrong)} breaches")
    for sentence in run.wrong:
        print(f"  {sentence}")
    return 1 if run.wrong else 0


def main() -> int:
    """Run the demonstration in a temporary folder, and leave nothing of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--subjects", type=int, default=100_000, help="in the run with kills")
    options.add_argument("--small", type=int, default=10_000, help="in the run it is compared with")
    chosen = options.parse_args()
    if min(chosen.subjects, chosen.small) < PRIOR:
        options.error(f"at least {PRIOR} subjects")
    if not Path("/proc/self/smaps_rollup").exists():
        print("demo-crash: left out, since memory is measured by /proc of Linux")
        return 0
    # A TERM ends it like an interrupt, so that the instance is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="cv3-crash-"))
    instance = Instance(folder)
    try:
        return show(instance, folder, chosen.subjects, chosen.small)
    except (Breach, Failure) as fault:
        print(f"BREACH: {fault}")
        return 1
    finally:
        instance.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
