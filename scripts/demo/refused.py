"""The refused rows that an instance reports, downloaded and held against those planted."""

import csv
import io
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from cvf_app.console.server import exchange
from scripts.demo.instance import Breach
from scripts.demo.planted import LONG, NO_ID, WRONG_COLUMNS, WRONG_TYPE

_SHOWN = 5


def downloaded(address: str, token: str, source_id: str, job: dict[str, Any]) -> dict[int, str]:
    """Return the kind of fault of every refused row, by line, as the whole report has them.

    Raises:
        Breach: the report is no table of file, line and reason, or names a line twice.
    """
    path = f"{address}/sources/{source_id}/reports/{job['jobId']}/refusals"
    answer = exchange("GET", path, headers={"Authorization": f"Bearer {token}"})
    if answer.status != HTTPStatus.OK:
        raise Breach(f"no refusals at {path}: {answer.status} {answer.body.decode()[:500]}")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    found: dict[int, str] = {}
    for row in rows:
        if set(row) != {"file", "line", "reason"} or int(row["line"]) in found:
            raise Breach(f"this is no refusal of a row of its own: {row}")
        found[int(row["line"])] = kind(row["reason"])
    return found


def kind(reason: str) -> str:
    """Return which of the planted faults a reason speaks of; else the reason itself."""
    if "cells for" in reason:
        return LONG
    if "subject id" in reason:
        return NO_ID
    return WRONG_TYPE if any(name in reason for name in WRONG_COLUMNS) else reason


def differences(wanted: Mapping[int, str], found: Mapping[int, str]) -> str:
    """Say in which rows two differ; nothing when they are equal."""
    lines = [line for line in sorted({*wanted, *found}) if wanted.get(line) != found.get(line)]
    told = [f"{line}: {wanted.get(line)}, not {found.get(line)}" for line in lines[:_SHOWN]]
    return f"{len(lines)} differ ({'; '.join(told)})" if lines else ""
