"""From a fresh clone to exact answers: what a newcomer does, done by a program and checked.

Clones the landed state, gives it an empty home, runs `./CafeVariome3.sh local` and `cvf`, takes
400 published phenopackets in by two roads (JSON and CSV), asks the 25 queries of the expected
answers and 300 seeded random ones over HTTP, and prints a table. Exits 1 when any answer differs.
`--corrupt` changes one expectation first, to prove that this demonstration can fail.
Without the data folder beside the checkout (or named in CV3_TEST_SHARED) it says so and exits 0.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from cvf_app.console.server import Server, exchange  # noqa: E402 - after the path above
from cvf_app.console.session import Sessions  # noqa: E402 - see above
from cvf_app.pipelines.phenopacket import read_phenopacket  # noqa: E402 - see above
from cvf_app.records.model import RecordQuery  # noqa: E402 - see above
from cvf_app.subject import Subject  # noqa: E402 - see above
from cvf_app.wire import convert  # noqa: E402 - see above
from scripts.demo.answers import ask, digest, exact_answers  # noqa: E402 - see above
from tests.support.evaluate import matching_ids  # noqa: E402 - see above
from tests.support.shared import SHARED  # noqa: E402 - see above

PIPELINES = Path(__file__).parent / "pipelines"
RANDOM_QUERIES = 300


class Newcomer:
    """A person with a fresh clone and an empty home."""

    def __init__(self, folder: Path) -> None:
        """Clone the landed state into the folder."""
        self.clone = folder / "cafe-variome"
        home = folder / "home"
        home.mkdir()
        kept = ("PATH", "LANG", "TMPDIR", "CI", "SSL_CERT_FILE")
        self.env = {
            name: value
            for name, value in os.environ.items()
            if name in kept or name.startswith("PIP_")
        }
        self.env |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.clone)], check=True)

    def run(self, *command: str) -> str:
        """Run a command in the clone and return what it printed; a failure ends it all."""
        print(f"$ {' '.join(command)}", flush=True)
        done = subprocess.run(
            command, cwd=self.clone, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout or done.stderr

    def cvf(self, *words: str) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run `cvf … --json` and return what it printed."""
        printed = self.run(".venv/bin/cvf", *words, "--json")
        return json.loads(printed) if printed.strip() else None

    def server(self) -> Server:
        """Return the instance, asked with the newcomer's own login."""
        sessions = Sessions(Path(self.env["XDG_CONFIG_HOME"]) / "cafe-variome")
        session = sessions.read()
        if session is None:
            sys.exit("cvf login kept no session")
        address = session.server
        return Server(address, lambda anew: sessions.token(address, anew=anew))


def random_queries(subjects: list[Subject], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Draw queries from the terms of the data itself, one to three filters each."""
    draw = random.Random(seed)  # noqa: S311 - a seeded draw, no secret
    terms = sorted({term for one in subjects for term in one.hpo if isinstance(term, str)})
    genes = sorted({variant.gene for one in subjects for variant in one.variant})
    labels = sorted({str(one.eav["cohort"]) for one in subjects if "cohort" in one.eav})

    def hpo() -> dict[str, Any]:
        person = draw.choice([one for one in subjects if one.hpo])
        own = [term for term in person.hpo if isinstance(term, str)]
        drawn = draw.sample(own, min(len(own), draw.randint(1, 3))) + draw.sample(terms, 1)
        at_least = draw.randint(1, min(2, len(set(drawn))))
        return {"hpo": [{"terms": drawn, "similarity": 1, "minimumMatch": at_least}]}

    def person() -> dict[str, Any]:
        low = draw.randint(0, 60)
        ages = {"age": {"min": low, "max": min(100, low + draw.randint(0, 40))}}
        return {"subject": draw.choice([{"gender": draw.choice(["male", "female"])}, ages])}

    def variant() -> dict[str, Any]:
        classes = draw.choice([[], ["missense"], ["frameshift", "nonsense"]])
        drawn = draw.sample(genes, draw.randint(0, 4))
        return {"variant": [{"genes": drawn, "mutation": classes}]}

    def eav() -> dict[str, Any]:
        one = draw.choice(labels)
        return draw.choice(
            [
                {"eav": [{"attribute": "cohort", "relation": "stringIs", "value": one}]},
                {"eav": [{"attribute": "cohort", "relation": "stringIsNot", "value": one}]},
                {
                    "eav": [
                        {
                            "attribute": "diseaseLabel",
                            "relation": "regexContains",
                            "value": "[Ss]yndrome|1$",
                        }
                    ]
                },
                {"eav": [{"attribute": "variantCount", "relation": "numericLessThan", "value": 2}]},
            ]
        )

    kinds: list[Callable[[], dict[str, Any]]] = [hpo, person, variant, eav]
    for _ in range(count):
        drawn: dict[str, Any] = {}
        for kind in draw.sample(kinds, draw.randint(1, 3)):
            drawn |= kind()
        yield drawn


def main() -> int:
    """Run the demonstration and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corrupt", action="store_true", help="change one expectation first")
    options.add_argument("--keep", action="store_true", help="leave the instance running")
    chosen = options.parse_args()
    if SHARED is None:
        print("demo-1: left out, since the data folder is not beside this checkout")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="cv3-demo-"))
    newcomer = Newcomer(folder)
    try:
        return show(newcomer, SHARED / "data" / "phenopackets", corrupt=chosen.corrupt)
    finally:
        if not chosen.keep:
            subprocess.run(
                ["./CafeVariome3.sh", "stop"], cwd=newcomer.clone, env=newcomer.env, check=False
            )
            shutil.rmtree(folder, ignore_errors=True)


def show(newcomer: Newcomer, data: Path, *, corrupt: bool) -> int:
    """Bring the instance up, take the data in by both roads and compare every answer."""
    begin = time.monotonic()
    print(newcomer.run("./CafeVariome3.sh", "local"))
    newcomer.cvf("login")
    ready = time.monotonic() - begin
    user = newcomer.cvf("whoami")["userId"]
    sources = {}
    for name in ("packets", "wide"):
        sources[name] = newcomer.cvf("sources", "create", name)["sourceId"]
    group = ["groups", "create", "demo", "--policy", "list", "--user", user]
    newcomer.cvf(*group, "--source", sources["packets"], "--source", sources["wide"])
    newcomer.cvf("upload", "packets", str(data / "packets"))
    newcomer.cvf("ingest", "packets")
    server = newcomer.server()
    ask(server, {}, sources["packets"])
    first_answer = time.monotonic() - begin
    newcomer.cvf("pipelines", "create", str(PIPELINES / "wide_file.json"))
    newcomer.cvf("pipelines", "create", str(PIPELINES / "wide_remap.json"))
    newcomer.cvf("upload", "wide", str(data / "subjects_wide.csv"))
    newcomer.cvf("ingest", "wide", "--pipeline", "wide table")
    newcomer.cvf("remap", "wide", "--pipeline", "wide table to subjects")

    expected = json.loads((data / "expected.json").read_text())["queries"]
    if corrupt:
        expected[0]["count"] += 1
    wrong = 0
    for name, source_id in sources.items():
        print(f"\n{name}: query, expected, answered, ids")
        answers = [ask(server, query["query"], source_id) for query in expected]
        for query, (count, ids) in zip(expected, answers, strict=True):
            same_ids = "equal" if digest(ids) == query["sha256OfSortedIds"] else "DIFFER"
            print(f"  {query['id']}  {query['count']:4} {count:4}  {same_ids}")
        exact = exact_answers(expected, answers)
        print(f"{exact} of {len(expected)}")
        wrong += len(expected) - exact
        falsified = [expected[0] | {"count": expected[0]["count"] + 1}, *expected[1:]]
        if exact_answers(falsified, answers) == exact and not corrupt:
            sys.exit("a corrupted expectation was not noticed")

    subjects = [
        read_phenopacket(path.read_bytes(), cohort=path.parent.name).subject
        for path in sorted((data / "packets").rglob("*.json"))
    ]
    exact = 0
    for query in random_queries(subjects, RANDOM_QUERIES, seed=20261121):
        naive = sorted(matching_ids(convert(query, RecordQuery), subjects))
        exact += ask(server, query, sources["packets"]) == (len(naive), naive)
    print(f"\n{exact} of {RANDOM_QUERIES} random queries equal the naive evaluator over the files")
    wrong += RANDOM_QUERIES - exact
    print(
        f"{ready:.0f} s from the first command to the login, "
        f"{first_answer:.0f} s to the first answer"
    )
    health = exchange("GET", f"{server.address}/health/ready")
    print(health.body.decode())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
