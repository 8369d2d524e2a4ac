"""One question to one source over HTTP, and whether answers are the expected ones."""

import hashlib
import json
import sys
from typing import Any

from cvf_app.console.server import Server


def ask(server: Server, query: dict[str, Any], source_id: str) -> tuple[int, list[str]]:
    """Ask one source over HTTP at the depth of a list; return its count and sorted ids."""
    body = query | {"sources": {"sources": [source_id]}}
    answer = server.call(
        "POST", "/record/", body=json.dumps(body).encode(), headers={"Prefer": "wait=30"}
    )
    found = [entry for response in answer["responses"] for entry in response["messageData"]]
    if len(found) != 1:
        sys.exit(f"one answer was expected, not {len(found)}: {answer}")
    subjects = found[0].get("resultDetails", {}).get("subjects", [])
    return found[0].get("recordCount", 0), sorted(one["subjectId"] for one in subjects)


def digest(ids: list[str]) -> str:
    """Return the SHA-256 by which the expected answers name a sorted list of ids."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def exact_answers(expected: list[dict[str, Any]], answers: list[tuple[int, list[str]]]) -> int:
    """Return how many answers have exactly the expected count and ids."""
    return sum(
        count == query["count"] and digest(ids) == query["sha256OfSortedIds"]
        for query, (count, ids) in zip(expected, answers, strict=True)
    )
