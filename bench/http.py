"""The main query over HTTP: `python bench/http.py --subjects 100000`.

Serves a new instance in a child process on a real database and broker, takes synthetic
phenopackets in by the real ingest, and asks distinct main queries (three HPO terms of which two
must be there, age, sex, an attribute, a number) as a person under the policy `count`. Beside it
stand the same questions evaluated in this process, and `GET /health/live` as the floor of HTTP.
The last line is `{"bench": "http", "figures": {…}}`; times are milliseconds.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Not this folder, where this file would stand in for the standard library's `http`.
sys.path[:1] = [str(ROOT), str(ROOT / "src")]

import aiohttp  # noqa: E402 - after the path above

from cvf_app.console.sample import phenopackets  # noqa: E402
from cvf_app.engine.evaluate import evaluate  # noqa: E402
from cvf_app.engine.segments import Generation  # noqa: E402
from cvf_app.pipelines.phenopacket import read_phenopacket  # noqa: E402
from cvf_app.records.compile import compile_query  # noqa: E402
from cvf_app.records.model import RecordQuery  # noqa: E402
from cvf_app.subject import Subject  # noqa: E402
from cvf_app.wire import convert  # noqa: E402
from tests.support import nodes, services  # noqa: E402

AT_ONCE = 8
CHUNK = 16 * 2**20


async def serve(folder: Path, subjects: int, mongo: str, redis: str) -> None:
    """Serve a node with its data, say where it is, and go on until standard input ends."""
    lines = b"\n".join(json.dumps(one).encode() for one in phenopackets(subjects, 7))
    async with nodes.node(folder, mongo, redis) as node:
        source = await node.source("bench")
        file = await upload(node, source, lines)
        asked = await node.call("POST", f"/sources/{source}/ingest", json={"dataFileIDs": [file]})
        job = await node.ended(asked.json["jobId"], seconds=300)
        if job["state"] != "complete":
            raise RuntimeError(json.dumps(job))
        await node.group("count", [await node.person("asker")], [source])
        told = {"address": node.address, "token": node.issuer.token("asker")}
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def upload(node: nodes.Node, source: str, content: bytes) -> str:
    """Upload a file in chunks and return the data file's id."""
    token = (await node.call("GET", f"/sources/upload-token?sourceId={source}")).json["token"]
    total = -(-len(content) // CHUNK)
    for number in range(1, total + 1):
        chunk = content[(number - 1) * CHUNK : number * CHUNK]
        answer = await node.piece(source, token, "people.json", chunk, number, total)
    return str(answer.json["dataFileId"])


def questions(people: list[Subject], count: int) -> list[dict[str, Any]]:
    """Draw distinct main queries from real people, so that there is somebody to find."""
    draw = random.Random(11)
    many = [one for one in people if len(one.hpo) > 2 and one.sex and one.age is not None]
    drawn = []
    for one in draw.sample(many, min(count, len(many))):
        age = one.age or 0
        terms = draw.sample([term for term in one.hpo if isinstance(term, str)], 3)
        drawn.append(
            {
                "subject": {
                    "gender": one.sex.value if one.sex else "any",
                    "age": {"min": max(0, age - 20), "max": min(100, age + 20)},
                },
                "hpo": [{"terms": terms, "similarity": 1, "minimumMatch": 2}],
                "eav": [
                    {"attribute": "disease", "relation": "stringIsNot", "value": "none"},
                    {
                        "attribute": "variantCount",
                        "relation": "numericGreaterThanOrEqual",
                        "value": 0,
                    },
                ],
            }
        )
    return drawn


async def timed(calls: Iterable[Callable[[], Awaitable[object]]]) -> list[float]:
    """Await each call in turn and return the milliseconds of each, sorted."""
    taken = []
    for call in calls:
        begin = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - begin) * 1000)
    return sorted(taken)


def share(taken: list[float], part: float) -> float:
    """Return the time that this part of the calls did not exceed."""
    return round(taken[min(len(taken) - 1, int(len(taken) * part))], 2)


async def measure(told: dict[str, str], drawn: list[dict[str, Any]], folder: Path) -> None:
    """Ask everything, compare the counts with this process's own, and print the figures."""
    headers = {"Authorization": f"Bearer {told['token']}", "Prefer": "wait=30"}
    counts: dict[int, int] = {}
    async with aiohttp.ClientSession(told["address"], headers=headers) as client:

        async def ask(number: int) -> None:
            async with client.post("/record/", json=drawn[number]) as answer:
                found = (await answer.json())["responses"][0]["messageData"][0]
                counts[number] = found["recordCount"]

        async def live() -> None:
            async with client.get("/health/live") as answer:
                await answer.read()

        await timed([lambda n=n: ask(n) for n in range(min(20, len(drawn)))])
        one = await timed([lambda n=n: ask(n) for n in range(len(drawn))])
        floor = await timed([live] * len(drawn))
        begin = time.perf_counter()
        lanes = [range(lane, len(drawn), AT_ONCE) for lane in range(AT_ONCE)]
        await asyncio.gather(*(timed([lambda n=n: ask(n) for n in lane]) for lane in lanes))
        rate = len(drawn) / (time.perf_counter() - begin)
    manifest = next((folder / "data" / "segments").glob("*/*/manifest.json"))
    generation = Generation.open(manifest.parent)
    plans = [compile_query(convert(one, RecordQuery)) for one in drawn]
    alone = []
    equal = True
    for number, plan in enumerate(plans):
        begin = time.perf_counter()
        count = evaluate(generation, plan).count
        alone.append((time.perf_counter() - begin) * 1000)
        equal = equal and count == counts[number]
    alone.sort()
    for name, taken in (("query over HTTP", one), ("evaluated here", alone), ("floor", floor)):
        print(f"{name:16} p50 {share(taken, 0.5):8} ms   p99 {share(taken, 0.99):8} ms")
    print(f"{AT_ONCE} at once: {rate:.0f} queries a second; counts equal: {equal}")
    figures = {
        "http_p50_ms": share(one, 0.5),
        "http_p99_ms": share(one, 0.99),
        "http_qps": round(rate, 1),
        "counts_equal": equal,
        "evaluated_p50_ms": share(alone, 0.5),
        "floor_p50_ms": share(floor, 0.5),
    }
    print(json.dumps({"bench": "http", "figures": figures}))


async def run(subjects: int, queries: int) -> None:
    """Start what is needed, measure, and put everything away."""
    with (
        tempfile.TemporaryDirectory() as name,
        services.mongodb() as mongo,
        services.redis() as redis,
    ):
        folder = Path(name)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--serve",
            name,
            mongo,
            redis,
            "--subjects",
            str(subjects),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            told = b""
            while not told.startswith(b'{"address"'):
                told = await child.stdout.readline() if child.stdout else b""
                if not told:
                    sys.exit("the served instance ended before it was ready")
            packets = phenopackets(min(subjects, 5000), 7)
            people = [read_phenopacket(json.dumps(one).encode()).subject for one in packets]
            await measure(json.loads(told), questions(people, queries), folder)
        finally:
            if child.stdin:
                child.stdin.close()
            await child.wait()


def main() -> None:
    """Read the options and run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--subjects", type=int, default=100_000)
    options.add_argument("--queries", type=int, default=300)
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        folder, mongo, redis = given.serve
        asyncio.run(serve(Path(folder), given.subjects, mongo, redis))
    else:
        asyncio.run(run(given.subjects, given.queries))


if __name__ == "__main__":
    main()
