"""The full stack over HTTP: `python bench/http.py --subjects 100000`.

Starts a whole instance of full mode on real servers (`scripts/demo/stack.py`), takes synthetic
phenopackets in by the real ingest, and asks as a person who logged in at Keycloak: distinct main
queries (three HPO terms of which two must be there, age, sex, an attribute, a number) under the
policy `count`; their own settings (`GET /config/user`) as a small request; and who they are (`GET
/auth/user-info`), which asks Vault twice. Beside them stand the same questions evaluated in this
process, and `GET /health/live` as the floor of HTTP. Then the small request from many at once, of
one worker and of two. The last line is `{"bench": "http", "figures": {…}}`; times are
milliseconds, and `scaling_1_to_2` is requests per second of two workers over those of one: the
load, the database and the workers share this machine's cores.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
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
from keycloak import KeycloakAdmin, KeycloakOpenIDConnection  # noqa: E402 - see above

from cvf_app.console.sample import phenopackets  # noqa: E402 - see above
from cvf_app.console.session import Sessions  # noqa: E402 - see above
from cvf_app.engine.evaluate import evaluate  # noqa: E402 - see above
from cvf_app.engine.segments import Generation  # noqa: E402 - see above
from cvf_app.pipelines.phenopacket import read_phenopacket  # noqa: E402 - see above
from cvf_app.records.compile import compile_query  # noqa: E402 - see above
from cvf_app.records.model import RecordQuery  # noqa: E402 - see above
from cvf_app.subject import Subject  # noqa: E402 - see above
from cvf_app.wire import convert  # noqa: E402 - see above
from scripts.demo.stack import REALM, Stack  # noqa: E402 - see above

AT_ONCE = 8
MANY_AT_ONCE = 32
SMALL_SECONDS = 10.0
SMALL, WITH_VAULT, FLOOR = "/config/user", "/auth/user-info", "/health/live"
ASKER = "asker"


def set_up(stack: Stack, subjects: int) -> None:
    """Start everything, make a person who is logged in, and take the data in."""
    stack.up()
    password = secrets.token_urlsafe(18)
    subject = _account(stack, password)
    who = ("--username", ASKER, "--email", f"{ASKER}@example.org", "--subject", subject)
    stack.run(sys.executable, "-m", "cvf_app", "install", *who)
    console = (sys.executable, "-m", "cvf_app.console", "--server", stack.address)
    login = ("login", "--username", ASKER, "--password-stdin")
    stack.run(*console, *login, told=f"{password}\n")
    data = stack.folder / "people.json"
    with data.open("wb") as out:
        for one in phenopackets(subjects, 7):
            out.write(json.dumps(one).encode() + b"\n")
    source = str(stack.cvf("sources", "create", "bench")["sourceId"])
    stack.cvf("upload", "bench", str(data))
    stack.cvf("ingest", "bench")
    user = str(stack.cvf("whoami")["userId"])
    group = ("groups", "create", "bench", "--policy", "count", "--user", user, "--source", source)
    stack.cvf(*group)


def _account(stack: Stack, password: str) -> str:
    """Make an account in Keycloak and return what its tokens call it."""
    admin = stack.secret_of("keycloak")
    connection = KeycloakOpenIDConnection(
        server_url=stack.servers["keycloak"]["address"] + "/",
        username=admin["username"],
        password=admin["password"],
        user_realm_name="master",
        realm_name=REALM,
    )
    account = {
        "username": ASKER,
        "email": f"{ASKER}@example.org",
        "firstName": "An",
        "lastName": "Asker",
        "enabled": True,
        "credentials": [{"type": "password", "value": password, "temporary": False}],
    }
    return str(KeycloakAdmin(connection=connection).create_user(account))


def token(stack: Stack) -> str:
    """Return a token of the person's that is good for some minutes."""
    sessions = Sessions(stack.folder / "operator" / "cafe-variome")
    return sessions.token(stack.address, anew=True)


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


def shown(name: str, taken: list[float], rate: float) -> None:
    """Print one line of the table."""
    p50, p99 = share(taken, 0.5), share(taken, 0.99)
    print(f"{name:30} p50 {p50:8} ms   p99 {p99:8} ms   {rate:8.1f} a second", flush=True)


class Client:
    """Somebody who asks the instance."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Ask with this session."""
        self._session = session

    async def get(self, path: str) -> None:
        """Get a page, which has to answer 200."""
        async with self._session.get(path) as answer:
            answer.raise_for_status()
            await answer.read()

    async def ask(self, question: dict[str, Any]) -> int:
        """Ask a question and return the count."""
        async with self._session.post("/record/", json=question) as answer:
            answer.raise_for_status()
            return int((await answer.json())["responses"][0]["messageData"][0]["recordCount"])

    async def often(self, path: str, lanes: int) -> tuple[list[float], float]:
        """Get a page as often as goes; return sorted milliseconds, and how many a second."""
        await asyncio.gather(*(self.get(path) for _ in range(lanes)))
        begin = time.perf_counter()
        taken: list[float] = []

        async def lane() -> None:
            while time.perf_counter() - begin < SMALL_SECONDS:
                taken.extend(await timed([lambda: self.get(path)]))

        await asyncio.gather(*(lane() for _ in range(lanes)))
        return sorted(taken), len(taken) / (time.perf_counter() - begin)


async def small(stack: Stack, *paths: str, lanes: int = AT_ONCE) -> list[tuple[list[float], float]]:
    """Time small requests on the instance as it runs now, one kind after the other."""
    headers = {"Authorization": f"Bearer {token(stack)}"}
    found = []
    async with aiohttp.ClientSession(stack.address, headers=headers) as session:
        for path in paths:
            taken, rate = await Client(session).often(path, lanes)
            shown(f"{path}, {lanes} at once", taken, rate)
            found.append((taken, rate))
    return found


async def queries(stack: Stack, drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask everything one by one and several at once; compare with this process's own counts."""
    headers = {"Authorization": f"Bearer {token(stack)}", "Prefer": "wait=30"}
    counts: dict[int, int] = {}
    async with aiohttp.ClientSession(stack.address, headers=headers) as session:
        client = Client(session)

        async def ask(number: int) -> None:
            counts[number] = await client.ask(drawn[number])

        await timed([lambda n=n: ask(n) for n in range(min(20, len(drawn)))])
        begin = time.perf_counter()
        one = await timed([lambda n=n: ask(n) for n in range(len(drawn))])
        shown("query", one, len(drawn) / (time.perf_counter() - begin))
        begin = time.perf_counter()
        lanes = [range(lane, len(drawn), AT_ONCE) for lane in range(AT_ONCE)]
        each = await asyncio.gather(*(timed([lambda n=n: ask(n) for n in lane]) for lane in lanes))
        rate = len(drawn) / (time.perf_counter() - begin)
        shown(f"query, {AT_ONCE} at once", sorted(ms for lane in each for ms in lane), rate)
    alone, equal = evaluated(stack.folder / "data" / "segments", drawn, counts)
    shown("query, evaluation alone", alone, 1000 * len(alone) / sum(alone))
    return {
        "http_query_p50_ms": share(one, 0.5),
        "http_query_p99_ms": share(one, 0.99),
        "http_query_qps": round(rate, 1),
        "evaluated_p50_ms": share(alone, 0.5),
        "counts_equal": equal,
    }


def evaluated(
    segments: Path, drawn: list[dict[str, Any]], counts: dict[int, int]
) -> tuple[list[float], bool]:
    """Evaluate the questions here; return sorted milliseconds, and whether the counts are equal."""
    generation = Generation.open(next(segments.glob("*/*/manifest.json")).parent)
    plans = [compile_query(convert(one, RecordQuery)) for one in drawn]
    alone, equal = [], True
    for number, plan in enumerate(plans):
        begin = time.perf_counter()
        count = evaluate(generation, plan).count
        alone.append((time.perf_counter() - begin) * 1000)
        equal = equal and count == counts[number]
    return sorted(alone), equal


def measure(stack: Stack, subjects: int, asked: int) -> dict[str, Any]:
    """Measure everything and return the figures."""
    packets = phenopackets(min(subjects, 5000), 7)
    people = [read_phenopacket(json.dumps(one).encode()).subject for one in packets]
    figures = asyncio.run(queries(stack, questions(people, asked)))
    (taken, rate), (_, with_vault), (_, floor) = asyncio.run(small(stack, SMALL, WITH_VAULT, FLOOR))
    many = {}
    for workers in (1, 2):
        stack.stop()
        stack.start(workers=workers)
        print(f"workers: {workers}")
        ((_, many[workers]),) = asyncio.run(small(stack, SMALL, lanes=MANY_AT_ONCE))
    return figures | {
        "http_small_qps": round(rate, 1),
        "http_small_p50_ms": share(taken, 0.5),
        "http_small_p99_ms": share(taken, 0.99),
        "http_with_vault_qps": round(with_vault, 1),
        "floor_qps": round(floor, 1),
        "scaling_1_to_2": round(many[2] / many[1], 2),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Read the options and run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--subjects", type=int, default=100_000)
    options.add_argument("--queries", type=int, default=300)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="cv3-bench-", ignore_cleanup_errors=True) as name:
        stack = Stack(Path(name))
        try:
            set_up(stack, given.subjects)
            figures = measure(stack, given.subjects, given.queries)
        finally:
            stack.down()
    print(json.dumps({"bench": "http", "figures": figures}))


if __name__ == "__main__":
    main()
