"""DuckDB's side of the query benchmark: the same subjects in tables that suit it, and its best.

It may choose among several ways to say a question and between one thread and two.
"""

import statistics
import time
from typing import Any

import duckdb
import numpy as np

from bench.measure import timed
from bench.population import CATEGORIES, CHUNK, NUMBERS, TEXTS, Arrays, World
from bench.questions import Question

BUDGET = 25.0


def load(world: World, total: int) -> duckdb.DuckDBPyConnection:
    """Fill DuckDB with the same subjects, in tables that suit it: sorted, numbers for names."""
    chunks = [
        (start, world.chunk(number, min(CHUNK, total - start)))
        for number, start in enumerate(range(0, total, CHUNK))
    ]

    def column(name: str, *, offset: bool = False) -> Any:  # noqa: ANN401 - any numpy type
        return np.concatenate([made[name] + (start if offset else 0) for start, made in chunks])

    db = duckdb.connect()
    there = np.concatenate([made["there"] for _, made in chunks], axis=1)
    s: Arrays = {"row": np.arange(total, dtype=np.int32)}
    s["age"], s["sex"] = column("age").astype(np.int16), column("sex").astype(np.int8)
    for at in range(len(CATEGORIES)):
        s[f"cat{at}"] = np.where(there[at], column(f"cat{at}"), -1).astype(np.int16)
    for at in range(NUMBERS):
        s[f"num{at}"] = np.where(there[6 + at], column(f"num{at}"), np.nan)
    s["text_at"] = np.where(there[13], column("text"), -1).astype(np.int32)
    numbers = ", ".join(
        f"CASE WHEN isnan(num{at}) THEN NULL ELSE num{at} END AS num{at}" for at in range(NUMBERS)
    )
    texts = {"id": np.arange(TEXTS, dtype=np.int32), "text": np.array(world.texts, dtype=object)}
    db.register("new_texts", texts)
    db.execute("CREATE TABLE texts AS SELECT * FROM new_texts")
    db.register("new_s", s)
    db.execute(
        f"CREATE TABLE s AS SELECT new_s.* REPLACE ({numbers}), text FROM new_s "
        "LEFT JOIN texts ON texts.id = text_at ORDER BY row"
    )
    h = {
        "row": column("hpo_row", offset=True).astype(np.int32),
        "term": column("hpo_term").astype(np.int32),
    }
    db.register("new_h", h)
    db.execute("CREATE TABLE h AS SELECT * FROM new_h ORDER BY term, row")
    v = {
        "row": column("variant_row", offset=True).astype(np.int32),
        "gene": column("gene").astype(np.int32),
        "class": column("class").astype(np.int8),
        "af": column("af"),
        "ac": column("ac").astype(np.int8),
    }
    db.register("new_v", v)
    db.execute(
        "CREATE TABLE v AS SELECT * REPLACE (CASE WHEN isnan(af) THEN NULL ELSE af END AS af) "
        "FROM new_v ORDER BY gene, class, af"
    )
    db.execute(
        f"CREATE TABLE l AS SELECT gene, class, sum(ac) / (2 * {total}) AS local FROM v "
        "GROUP BY gene, class ORDER BY gene, class"
    )
    for name in ("new_texts", "new_s", "new_h", "new_v"):
        db.unregister(name)
    return db


def ask(db: duckdb.DuckDBPyConnection, asked: list[Question]) -> tuple[list[int], list[float], int]:
    """Return counts, times and threads of DuckDB's better side, within a budget of time."""
    best: tuple[list[int], list[float], int] | None = None
    for threads in (1, 2):
        db.execute(f"SET threads = {threads}")

        def run(question: Question, form: int) -> tuple[float, int]:
            sql = question.statements[form]
            return timed(lambda: int(db.execute(sql).fetchall()[0][0]))

        forms = range(len(asked[0].statements))
        tried = [[run(one, form)[0] for one in asked[:8]][2:] for form in forms]
        form = int(np.argmin([statistics.median(times) for times in tried]))
        times, counts = [], []
        end = time.perf_counter() + BUDGET
        for one in asked:
            took, count = run(one, form)
            times.append(took)
            counts.append(count)
            if time.perf_counter() > end:
                break
        if best is None or statistics.median(times) < statistics.median(best[1]):
            best = (counts, times, threads)
    if best is None:
        raise AssertionError
    return best
