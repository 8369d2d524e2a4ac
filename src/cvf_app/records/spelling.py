"""The query builder as sent → `RecordQuery`: two spellings in, one kept, nothing too large.

The published prose and the published files spell five fields differently. Both are
taken; what is kept and answered has the spelling of the files. Limits are checked
before anything is made of the query, each with the path of what is too large.
"""

from typing import Any

from cvf_app.errors import Invalid
from cvf_app.records.model import RecordQuery
from cvf_app.wire import convert, decode

MOST_FILTERS = 100
MOST_TERMS = 200
MOST_SOURCES = 1000
LONGEST_TEXT = 2000
DEEPEST = 8
_LARGEST_INTEGER = 2**63 - 1

_FILTERS = ("hpo", "ordo", "genes", "snomed", "variant", "eav")
# Kind of filter → the other spelling → ours. An empty kind is the query itself.
_OTHER_SPELLINGS: dict[str, dict[str, str]] = {
    "": {"variants": "variant"},
    "hpo": {"useOrphanet": "useOrphaNet"},
    "ordo": {"matchScale": "minimumMatch", "useHpo": "useHPO"},
    "familyType": {"trio": "trios"},
}


def read_query(data: bytes) -> RecordQuery:
    """Read a query builder from JSON bytes, in either spelling.

    Raises:
        Invalid: it is no query, or too large; the path says where.
    """
    return convert(normalised(decode(data, dict[str, Any])), RecordQuery)


def normalised(query: dict[str, Any]) -> dict[str, Any]:
    """Return a decoded query in the spelling of the files, checked against the limits.

    Raises:
        Invalid: a part is too large, or a field stands there in both spellings.
    """
    _check_values(query, "$", 1)
    query = _respelled(query, "", "$")
    for kind in _FILTERS:
        filters = query.get(kind)
        if isinstance(filters, list):
            _check_length(filters, MOST_FILTERS, f"$.{kind}", "filters of one kind")
            query[kind] = [
                _filter(each, kind, f"$.{kind}[{place}]") for place, each in enumerate(filters)
            ]
    subject = query.get("subject")
    if isinstance(subject, dict) and isinstance(subject.get("familyType"), dict):
        family = _respelled(subject["familyType"], "familyType", "$.subject.familyType")
        query["subject"] = {**subject, "familyType": family}
    sources = query.get("sources")
    if isinstance(sources, dict) and isinstance(sources.get("sources"), list):
        _check_length(sources["sources"], MOST_SOURCES, "$.sources.sources", "sources")
    return query


def _filter(value: object, kind: str, path: str) -> object:
    if not isinstance(value, dict):
        return value  # the conversion says what is wrong with it
    for name, inner in value.items():
        if isinstance(inner, list):
            _check_length(inner, MOST_TERMS, f"{path}.{name}", "entries")
            for place, each in enumerate(inner):
                if isinstance(each, dict) and isinstance(each.get("alleles"), list):
                    _check_length(
                        each["alleles"], MOST_TERMS, f"{path}.{name}[{place}].alleles", "alleles"
                    )
    return _respelled(value, kind, path)


def _respelled(fields: dict[str, Any], kind: str, path: str) -> dict[str, Any]:
    other = _OTHER_SPELLINGS.get(kind, {})
    for theirs, ours in other.items():
        if theirs in fields and ours in fields:
            raise Invalid(
                f"{theirs} and {ours} are the same field; send one of them.",
                path=f"{path}.{theirs}",
            )
    return {other.get(name, name): value for name, value in fields.items()}


def _check_length(values: list[Any], most: int, path: str, what: str) -> None:
    if len(values) > most:
        raise Invalid(
            f"A query takes at most {most} {what} here; this has {len(values)}.", path=path
        )


def _check_values(value: object, path: str, depth: int) -> None:
    if depth > DEEPEST:
        raise Invalid(f"A query is at most {DEEPEST} levels deep.", path=path)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise Invalid(f"A text in a query has at most {LONGEST_TEXT} characters.", path=path)
    # What is larger could not be kept as the number it is.
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise Invalid("This whole number is too large.", path=path)
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(inner, f"{path}.{name}" if len(name) <= LONGEST_TEXT else path, depth + 1)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_values(inner, f"{path}[{place}]", depth + 1)
