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
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.memory import descendants, is_measurable, share_of  # noqa: E402 - after the path above
from cvf_app.console.failures import Failure  # noqa: E402
from cvf_app.console.sample import phenopackets  # noqa: E402
from scripts.demo.instance import LOOK_SECONDS, Breach, Instance, insist  # noqa: E402

PRIOR = 1000
KILL_AT = (0.25, 0.6)
KILLED_BETWEEN = (0.2, 0.8)
MOST_MB = 300.0
MOST_RATIO = 1.2
MOST_SECONDS = 350.0
SAMPLE_SECONDS = LOOK_SECONDS
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


def _megabytes(pid: int) -> tuple[float, float]:
    pss, rss = share_of(pid)
    return pss / 1e6, rss / 1e6


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
    """Looks at the memory of guard, app and the app's children again and again.

    `processes` is how many children of the app were seen side by side at most.
    """

    def __init__(self, instance: Instance) -> None:
        """Watch this instance; `start` begins."""
        super().__init__(daemon=True)
        self._instance = instance
        self._over = threading.Event()
        self.doing = ""
        self.peak = Peak()
        self.processes = 0

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
        guards = _megabytes(guard)
        tree = [_megabytes(pid) for pid in (descendants(app) if app else [])] or [(0.0, 0.0)]
        pss = guards[0] + sum(each[0] for each in tree)
        self.processes = max(self.processes, len(tree) - 1)
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
    mib: float
    processes: int
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
            mib=data.path.stat().st_size / 2**20,
            processes=memory.processes,
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
            if job["state"] not in ("waiting", "preparing", "running"):
                return
            yield job
            if time.monotonic() - self._begin > MOST_SECONDS:
                raise Breach(f"not over after {MOST_SECONDS:.0f} s")
            time.sleep(SAMPLE_SECONDS)

    def _kill(self, name: str, job: dict[str, Any]) -> None:
        """Kill the app, and see that its children die with it and that the guard starts another."""
        children, left = self._instance.kill()
        told = f"killed at {job['progress']:.0%} ({job.get('stage', '')})"
        print(f"{name}: app with {children} children {told}", flush=True)
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
        ("file, MiB", lambda one: f"{one.mib:.0f}"),
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
        ("  most children side by side", lambda one: str(one.processes)),
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
    if not is_measurable():
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
