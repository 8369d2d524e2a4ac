"""What a test of bad input holds on to: a source with good data, and the shape of every refusal."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.nodes import Answer, Node

PACKETS = sorted((Path(__file__).parents[1] / "data" / "phenopackets").rglob("*.json"))
QUERIES: tuple[dict[str, Any], ...] = (
    {},
    {"subject": {"gender": "female"}},
    {"hpo": [{"terms": ["HP:0001250"]}]},
)
INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|/tmp/|/work/|/home/|site-packages|cvf_app|msgspec|pymongo|sqlite"
    r"|<class|\b[A-Z]\w+(?:Error|Exception)\b|\bErrno\b|object at 0x"
)


@dataclass
class Good:
    """A source with data that went in before the fault, and what it answered then."""

    node: Node
    source_id: str
    person: str
    before: list[Any]

    async def now(self) -> list[Any]:
        """Ask everything again."""
        return await _everything(self.node, self.source_id, self.person)


async def good_source(node: Node, name: str) -> Good:
    """Ingest the small phenopackets, and let a person of the same name see all of them."""
    source_id = await node.source(name)
    content = b"[" + b",".join(path.read_bytes() for path in PACKETS) + b"]"
    job = await node.ingest(source_id, await node.upload(source_id, "packets.json", content))
    assert job["state"] == "complete", job
    user_id = await node.person(name)
    await node.group("detailedList", [user_id], [source_id], name)
    before = await _everything(node, source_id, name)
    assert before[0][0]["recordCount"] == len(PACKETS)
    return Good(node, source_id, name, before)


async def _everything(node: Node, source_id: str, person: str) -> list[Any]:
    answers = [await node.ask(query, person) for query in QUERIES]
    shown = await node.call("GET", f"/sources/{source_id}")
    return [*answers, shown.json]


def check_sentence(sentence: str, folder: Path) -> None:
    """See that a sentence is one for a person and tells nothing of how we are made."""
    assert re.match(r"\S.*\s.*[.?!…]$", sentence, re.DOTALL), sentence
    assert not INTERNALS.search(sentence), sentence
    assert str(folder) not in sentence


def refused(node: Node, answer: Answer, status: int, *, path: str | None = None, says="") -> None:
    """See that an answer is a refusal of this status, in the one shape, with a useful sentence."""
    assert answer.status == status, (answer.status, answer.body)
    assert not INTERNALS.search(answer.body.decode()), answer.body
    body = json.loads(answer.body)
    assert {"error", "code", "traceId"} <= set(body) <= {"error", "code", "traceId", "path"}
    check_sentence(body["error"], node.folder)
    assert says in body["error"]
    if path is not None:
        assert body.get("path") == path, body


def failed(node: Node, job: dict[str, Any], *says: str) -> None:
    """See that a job failed for its input, with a sentence in which these words stand."""
    assert job["state"] == "error", job
    fault = job["status"][-1]["error"]
    assert fault["cause"] == "input", fault
    check_sentence(fault["message"], node.folder)
    for word in says:
        assert word in fault["message"], fault
