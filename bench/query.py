"""The query engine against DuckDB, on the same synthetic subjects and the same questions.

Segments are written by the ingest's own builder, plans come from `records/compile.py`.
Prints a table and, last, one line of JSON.
"""

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# So that the command works from a clone, with nothing installed or set.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb

from bench.duck import ask as ask_duckdb
from bench.duck import load
from bench.measure import in_child, percentile, size
from bench.population import World
from bench.questions import KINDS, Questions
from bench.segments import ask as ask_engine
from bench.segments import write


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    total = options.subjects
    folder = Path(tempfile.mkdtemp(prefix="bench-query-"))
    try:
        _run(total, options.queries, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(total: int, queries: int, folder: Path) -> None:
    print(
        f"{total} subjects, {queries} questions a kind, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}"
    )
    took, peak = in_child(write, total, folder / "1")
    on_disk = size(folder)
    without = on_disk - size(folder, "documents.*")
    print(
        f"build {took:.1f} s with drawing ({total / took:.0f} subjects/s), peak {peak:.0f} MiB; "
        f"on disk {on_disk:.0f} MiB, {without:.0f} MiB without documents"
    )
    world = World()
    maker = Questions(world, total)
    questions = {kind: [maker.make(kind) for _ in range(queries)] for kind in KINDS}
    ours, opened, grown = in_child(ask_engine, folder / "1", questions)
    print(f"opened in {opened * 1000:.1f} ms; {grown:.0f} MiB more after all questions")
    start = time.perf_counter()
    db = load(world, total)
    print(f"DuckDB loaded in {time.perf_counter() - start:.1f} s")
    print("cold: empty cache; warm: asked first, with what other questions left; again: repeated")
    print(
        f"{'kind':8} {'hits':>8} {'cold p50':>9} {'warm p50':>9} {'warm p99':>9} {'again p50':>9} "
        f"{'DuckDB p50':>10} {'threads':>7} {'compared':>8} {'ratio':>7}"
    )
    equal = True
    figures: dict[str, Any] = {}
    for kind in KINDS:
        counts, cold, first, warm = ours[kind]
        theirs, times, threads = ask_duckdb(db, questions[kind])
        equal &= counts[: len(theirs)] == theirs
        mine, other = percentile(first[: len(theirs)], 50), percentile(times, 50)
        note = "  expansion given" if "~" in kind or kind == "main" else ""
        print(
            f"{kind:8} {statistics.median(counts):8.0f} {percentile(cold, 50):9.3f} "
            f"{mine:9.3f} {percentile(first, 99):9.3f} {percentile(warm, 50):9.3f} "
            f"{other:10.2f} {threads:7} {len(theirs):8} {other / mine:7.1f}{note}"
        )
        if kind == "main":
            figures["main_p50_ms"] = round(mine, 3)
            figures["main_cold_p50_ms"] = round(percentile(cold, 50), 3)
            figures["main_repeated_p50_ms"] = round(percentile(warm, 50), 3)
            figures["main_ratio_duckdb"] = round(other / mine, 1)
    figures |= {
        "counts_equal": equal,
        "engine_mib": round(grown, 1),
        "segment_mib": round(on_disk, 1),
        "build_peak_mib": round(peak, 1),
    }
    print(json.dumps({"bench": "query", "subjects": total, "figures": figures}))
    if not equal:
        raise SystemExit("The engines differ in their counts.")


if __name__ == "__main__":
    main()
