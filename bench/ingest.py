"""Data in, from the stored file to the answering generation: `python bench/ingest.py`.

Serves a new instance in a child process on a real database and broker, uploads a file of each
format at two sizes, takes it in by the real service and its job (a table with both pipelines), and
waits until a query counts every subject. Beside it stand the bare parsers over the same files in
the same run, the stages alone, and what a small GET takes meanwhile. Memory is the proportional
share of the instance's whole tree of processes, without database and broker.

The database is the server that CV3_TEST_MONGODB names; then the large files of the fast formats go
in once more on the embedded one, as in local mode. Without it the embedded one is all there is.
The last line is `{"bench": "ingest", "figures": {…}}`.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Not this folder, where another file would stand in for the standard library's `http`.
sys.path[:1] = [str(ROOT), str(ROOT / "src")]

from bench import stages  # noqa: E402 - after the path above
from bench.inputs import MAKERS  # noqa: E402 - see above
from bench.memory import watched  # noqa: E402 - see above
from bench.parsers import PARSERS  # noqa: E402 - see above
from bench.served import Served, serve, served  # noqa: E402 - see above
from bench.tables import file_pipeline, remap_pipeline  # noqa: E402 - see above
from tests.support import services, table  # noqa: E402 - see above

TABLES = ("csv", "xlsx")
FAST = ("csv", "phenopackets")
PINGS = 150
PING_SECONDS = 0.05
PATHS = ("/health/live", "/auth/user-info")


@dataclass(frozen=True)
class File:
    """A file to be taken in: its format, where it is, and how many subjects it has."""

    kind: str
    path: Path
    subjects: int
    mib: float


@dataclass
class Run:
    """One file taken in."""

    kind: str
    subjects: int
    mib: float
    seconds: float
    peak_mib: float
    bare_seconds: float
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Subjects per second, end to end."""
        return self.subjects / self.seconds

    @property
    def bare(self) -> float:
        """Subjects per second of the bare parser."""
        return self.subjects / self.bare_seconds


class Pings:
    """A small GET again and again, and how long each took in milliseconds."""

    def __init__(self, node: Served) -> None:
        """Ask this node."""
        self._node = node
        self.taken: dict[str, list[float]] = {path: [] for path in PATHS}

    async def once(self) -> None:
        """Ask each path once."""
        for path, taken in self.taken.items():
            begin = time.perf_counter()
            async with self._node.client.get(path) as answer:
                await answer.read()
            taken.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(PING_SECONDS)

    async def forever(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.once()

    def p99(self, path: str) -> float:
        """Return the time that one in a hundred exceeds."""
        taken = sorted(self.taken[path])
        return taken[math.ceil(len(taken) * 0.99) - 1]


async def take_in(node: Served, given: File, pings: Pings | None) -> Run:
    """Take one file in and measure it."""
    kind, path, subjects = given.kind, given.path, given.subjects
    source = await node.source(f"{kind}{subjects}")
    file = await node.upload(source, path)
    pipelines = {
        "pipelineID": file_pipeline(f"file {path.name} {subjects}"),
        "remapPipelineID": remap_pipeline(f"columns {path.name} {subjects}"),
    }
    ways = {
        member: (await node.call("POST", "/pipelines/", json=each))["pipelineId"]
        for member, each in pipelines.items()
        if kind in TABLES
    }
    spent: dict[str, float] = {}
    begin = last = time.perf_counter()

    def seen(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + now - last
        last = now

    async with beside(pings):
        with watched(node.pid) as peak:
            begin = last = time.perf_counter()
            await node.job(source, file, ways, seen)
            counted = await node.count(source)
            seconds = time.perf_counter() - begin
    if counted != subjects:
        raise SystemExit(f"{kind}: {counted} subjects answer, not {subjects}")
    begin = time.perf_counter()
    if PARSERS[kind][1](path) != subjects:
        raise SystemExit(f"{PARSERS[kind][0]} does not find {subjects} subjects")
    bare = time.perf_counter() - begin
    return Run(kind, subjects, given.mib, seconds, peak(), bare, spent)


@contextlib.asynccontextmanager
async def beside(pings: Pings | None):  # noqa: ANN201 - a context and nothing else
    """Ask small things all the while."""
    if pings is None:
        yield
        return
    task = asyncio.create_task(pings.forever())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@dataclass
class Measured:
    """Everything that one database server gave."""

    server: str
    runs: list[Run] = field(default_factory=list)
    idle: Pings | None = None
    busy: Pings | None = None

    def run(self, kind: str, *, large: bool) -> Run | None:
        """Return the run of a format at one of the two sizes."""
        found = sorted((one for one in self.runs if one.kind == kind), key=lambda r: r.subjects)
        return (found[-1] if large else found[0]) if found else None

    @property
    def slowdown(self) -> float:
        """How many times its idle p99 a small GET takes at most during the large ingests."""
        if self.idle is None or self.busy is None:
            return 0.0
        return max(self.busy.p99(path) / self.idle.p99(path) for path in PATHS)


async def measure(server: str, mongo: str, folder: Path, files: dict[str, list[File]]) -> Measured:
    """Take all files in on one database server, the smallest first."""
    found = Measured(server)
    (folder / "node").mkdir(parents=True)
    with services.redis() as redis:
        async with served(Path(__file__), folder / "node", mongo, redis) as node:
            found.idle, found.busy = Pings(node), Pings(node)
            order = [(n, each) for some in files.values() for n, each in enumerate(some)]
            for number, each in sorted(order, key=lambda one: one[0]):
                pings = found.busy if number == len(files[each.kind]) - 1 else None
                # With the same sources, a moment before: a list of more sources takes longer.
                for _ in range(PINGS if pings else 0):
                    await found.idle.once()
                run = await take_in(node, each, pings)
                found.runs.append(run)
                show(run)
    return found


def show(run: Run) -> None:
    """Print one line of the table."""
    spent = " ".join(f"{name or 'waiting'} {took:.1f}" for name, took in run.stages.items())
    print(
        f"{run.kind:13}{run.subjects:9,}{run.mib:8.1f}{run.seconds:9.2f}{run.speed:11,.0f}"
        f"{run.bare:12,.0f} {PARSERS[run.kind][0]:11}{run.bare / run.speed:6.1f}"
        f"{run.peak_mib:9.0f}  {spent}",
        flush=True,
    )


def title(server: str) -> None:
    """Print the head of a table."""
    print(
        f"\n{server}\n{'':13}{'subjects':>9}{'MiB':>8}{'seconds':>9}{'subjects/s':>11}"
        f"{'bare/s':>12} {'':11}{'times':>6}{'peak MiB':>9}  stages as seen, s"
    )


@contextlib.contextmanager
def database() -> Iterator[tuple[str, str]]:
    """Give the database server to be measured on, and what it is."""
    with services.mongodb() as url:
        yield table.what("mongodb"), url


def closing(main: Measured, local: Measured | None) -> dict[str, object]:
    """Return the figures of the last line."""
    grown = []
    for kind in MAKERS:
        small, large = main.run(kind, large=False), main.run(kind, large=True)
        if small and large and small is not large:
            grown.append((large.seconds / large.subjects) / (small.seconds / small.subjects))
    sizes = {large: [main.run(kind, large=large) for kind in MAKERS] for large in (False, True)}
    figures: dict[str, object] = {}
    for kind in MAKERS:
        run = main.run(kind, large=True)
        name = "phenopacket" if kind == "phenopackets" else kind
        figures[f"{name}_subjects_per_s"] = round(run.speed) if run else None
        figures[f"{name}_bare_ratio"] = round(run.bare / run.speed, 1) if run else None
    for name, large in (("small", False), ("large", True)):
        figures[f"peak_mib_{name}"] = round(max(one.peak_mib for one in sizes[large] if one))
    figures["growth_ratio"] = round(max(grown, default=1.0), 2)
    figures["get_p99_ratio"] = round(main.slowdown, 2)
    beside_it = local or main
    for kind in FAST:
        run = beside_it.run(kind, large=True)
        name = "phenopacket" if kind == "phenopackets" else kind
        figures[f"local_{name}_subjects_per_s"] = round(run.speed) if run else None
    figures["database"] = main.server
    return figures


def run_all(small: int, large: int, kinds: list[str]) -> None:
    """Make the files, measure, and print the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
        folder = Path(name)
        files: dict[str, list[File]] = {}
        begin = time.perf_counter()
        for kind in kinds:
            filename, make = MAKERS[kind]
            for number, size in enumerate((small, large)):
                path = folder / str(number) / filename
                path.parent.mkdir(exist_ok=True)
                subjects = make(path, size)
                made = File(kind, path, subjects, path.stat().st_size / 2**20)
                files.setdefault(kind, []).append(made)
        print(f"files made in {time.perf_counter() - begin:.1f} s")
        with database() as (server, url):
            title(server)
            main = asyncio.run(measure(server, url, folder / "main", files))
        local = None
        if os.environ.get("CV3_TEST_MONGODB"):
            fast = {kind: [some[-1]] for kind, some in files.items() if kind in FAST}
            with services.secantusdb() as program:
                title("SecantusDB, as in local mode")
                measuring = measure("SecantusDB", program.url, folder / "local", fast)
                local = asyncio.run(measuring)
        if main.idle and main.busy:
            for path in PATHS:
                told = (main.idle.p99(path), main.busy.p99(path), len(main.busy.taken[path]))
                print(f"GET {path}: p99 {told[0]:.1f} ms idle, {told[1]:.1f} ms in {told[2]} calls")
        stages.show(
            [(each[-1].kind, each[-1].path, each[-1].subjects) for each in files.values()], folder
        )
    print(json.dumps({"bench": "ingest", "figures": closing(main, local)}))


def main() -> None:
    """Read the options and run."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--small", type=int, default=10_000, help="subjects of the small files")
    options.add_argument("--large", type=int, default=100_000, help="subjects of the large files")
    options.add_argument(
        "--formats", nargs="+", choices=list(MAKERS), default=list(MAKERS), help="which to take in"
    )
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        folder, mongo, redis = given.serve
        asyncio.run(serve(Path(folder), mongo, redis))
    else:
        run_all(given.small, given.large, given.formats)


if __name__ == "__main__":
    main()
