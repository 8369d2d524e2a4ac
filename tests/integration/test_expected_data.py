"""Every figure of the expected answers beside the shared data, asked of one node over HTTP.

An answer has the shape of the expectation, so that each leaf of an `expected*.json` is answered
or stands in `NO_OUTPUT`, and a corrupted leaf is a difference. What the product does not put out:

- `distinctSubjectDotId`: `subject.id` is not kept. Checked: 400 subjects, whose ids are those of
  the packets.
- The five answers of `sex` that are neither female nor male are one to it. Checked: their sum.
- Labels of terms (`topObservedHPO`, `topExcludedHPO`): only codes are kept. Checked: each code's
  count, and that no other term has more.
- `count_if_…` and `count_missing_matches` tell typical slips. Checked: no answer is one of them.
- `AN_called` and `af_called`: of calls only carried alleles are kept. Checked: `AC`, carriers and
  `af_all_subjects` (by the local frequency); the plain reader of `test_vcf` checks the called ones.
- The alleles of the files in `vcf`, which name no gene: positions are not kept. Checked: the same
  calls with each ALT allele named as a gene. Of `altAlleles` those without a carrier come from the
  file.
- `features_long.tsv` has 399 subjects if every row is read. Read as it should be, with the
  `rowFilter`, it gives the 397 of `withAnyObservedHPO`. Checked: both.
- `attributesWithDots`: the keys have `_`. Checked: the display names, and the keys that they are
  names of are asked for.
"""

import asyncio
import gzip
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.support.filling import Asked, Filling, mapping, reading
from tests.support.shared import NO_SHARED, SHARED

DATA = (SHARED or Path()) / "data"
WIDE = Path(__file__).parents[2] / "scripts" / "demo" / "pipelines"
KILOGENOMES = "1kg_chr2_629_samples.vcf.gz"
QUERIES = ("*queries/*/what", "*queries/*/query", "*queries/*/query/*")
NO_OUTPUT = {
    "phenopackets/expected.json": (
        "label",
        "mapping/*",
        "figures/distinctSubjectDotId",
        "figures/sex/None",
        "figures/sex/OTHER_SEX",
        "figures/sex/UNKNOWN_SEX",
        "figures/top*HPO/*/1",
        "queries/*/id",
        "queries/*/count_*",
        *QUERIES,
    ),
    "phenopackets/expected_tables.json": ("*/note",),
    "cohorts/expected.json": ("rule", *QUERIES),
    "vcf/expected.json": (
        "rule",
        *(f"*/alleles/*/{name}" for name in ("chrom", "pos", "ref", "alt")),
        "*/alleles/*/AN_called",
        "*/alleles/*/af_called",
    ),
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its path; an empty container is one too."""
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    if not members or not value:
        yield path, value
        return
    for name, inner in members:
        yield from leaves(inner, f"{path}/{name}".removeprefix("/"))


def differences(file: str, wanted: Any, answered: Any) -> list[str]:
    """Return the paths of all leaves that are not as expected, or that only one side has."""
    left = {
        path: value
        for path, value in leaves(wanted)
        if not any(fnmatchcase(path, pattern) for pattern in NO_OUTPUT[file])
    }
    right = dict(leaves(answered))
    return [path for path in left | right if left.get(path, left) != right.get(path, right)]


def expectation(file: str) -> Any:
    return json.loads((DATA / file).read_text())


def digest(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def packets() -> bytes:
    out, root = io.BytesIO(), DATA / "phenopackets" / "packets"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.json")):
            archive.write(path, str(path.relative_to(root)))
    return out.getvalue()


async def answers(source: Asked, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask record queries and return count and ids as the expectation has them."""
    found = []
    for one in queries:
        ids = sorted(await source.ids(**one["query"]))
        found.append({"count": len(ids), "sha256OfSortedIds": digest(ids), "subjectIds": ids})
    return found


async def top(source: Asked, wanted: list[list[Any]], found: Counter[str], ask) -> list[list[Any]]:
    """Ask for each of the most frequent things, and see that nothing else is more frequent."""
    most = [count for _, count in found.most_common(len(wanted))]
    asked = [[entry[0], await source.count(**ask(entry[0]))] for entry in wanted]
    assert [count for _, count in asked] == most
    return asked


async def figures(source: Asked, wanted: dict[str, Any]) -> dict[str, Any]:
    """Answer the figures of the sample of phenopackets by queries and by whole documents."""
    people = await source.documents()
    observed = Counter(chain.from_iterable(one.get("HPO", []) for one in people))
    excluded = Counter(chain.from_iterable(one.get("excludedHPO", []) for one in people))
    variants = [each for one in people for each in one.get("VARIANT", [])]
    of_one = ({each["gene"] for each in one.get("VARIANT", [])} for one in people)
    genes = Counter(chain.from_iterable(of_one))
    classes = Counter(str(each.get("mutation")) for each in variants)
    diseases = Counter(one["EAV"]["disease"] for one in people)
    shown = await top(
        source,
        wanted["topObservedHPO"],
        observed,
        lambda term: {"hpo": [{"terms": [term], "similarity": 1, "minimumMatch": 1}]},
    )
    hidden = [[code, excluded[code]] for code, *_ in wanted["topExcludedHPO"]]
    assert [count for _, count in hidden] == [n for _, n in excluded.most_common(len(hidden))]
    sexes = {}
    for name in ("FEMALE", "MALE"):
        sexes[name] = await source.count(subject={"gender": name.lower()})
    others = sum(wanted["sex"].values()) - wanted["sex"]["FEMALE"] - wanted["sex"]["MALE"]
    assert sum("sex" not in one for one in people) == others
    return {
        "subjects": await source.count(),
        "sex": sexes,
        "withAge": sum("age" in one for one in people),
        "withAgeFirstSymptoms": sum("ageFirstSymptoms" in one for one in people),
        "withAnyObservedHPO": sum(bool(one.get("HPO")) for one in people),
        "observedFeatures": observed.total(),
        "excludedFeatures": excluded.total(),
        "distinctObservedHPO": len(observed),
        "topObservedHPO": [{0: code, 2: count} for code, count in shown],
        "topExcludedHPO": [{0: code, 2: count} for code, count in hidden],
        "distinctGenes": len(genes),
        "topGenes": await top(
            source,
            wanted["topGenes"],
            genes,
            lambda gene: {"variant": [{"genes": [gene], "mutation": []}]},
        ),
        "mutationClasses": dict(classes),
        "distinctDiseases": len(diseases),
        "topDiseases": await top(
            source,
            wanted["topDiseases"],
            diseases,
            lambda name: {"eav": [{"attribute": "disease", "relation": "stringIs", "value": name}]},
        ),
        "eavAttributes": dict(Counter(chain.from_iterable(one["EAV"] for one in people))),
    }


async def by_packets(filling):
    """Return the answers of the JSON route, in the shape of their expectation."""
    wanted = expectation("phenopackets/expected.json")
    source = await filling.take("packets.zip", packets())
    lines = (DATA / "phenopackets" / "manifest.tsv").read_text().splitlines()[1:]
    assert sorted(await source.ids()) == sorted(line.split("\t")[2] for line in lines)
    found = await answers(source, wanted["queries"])
    for one, answered in zip(wanted["queries"], found, strict=True):
        shown = await source.documents(**one["query"])
        assert sorted(each["subjectId"] for each in shown) == answered["subjectIds"]
    return {
        "recordCount": await source.count(),
        "figures": await figures(source, wanted["figures"]),
        "queries": found,
    }


def wide(kind: str) -> dict[str, Any]:
    return json.loads((WIDE / f"wide_{kind}.json").read_text())


async def by_variants(filling, name: str, content: bytes) -> dict[str, Any]:
    """Return the answers of the VCF route."""
    source = await filling.take(name, content)
    queries = {one["id"]: one for one in expectation("phenopackets/expected.json")["queries"]}
    some = {"attribute": "variantCount", "relation": "numericGreaterThanOrEqual", "value": 1}
    return {
        "samples": await source.count(),
        "sites": source.result["rows"],
        "samplesWithAnyAlt": await source.count(eav=[some]),
    } | {each: await source.count(**queries[each]["query"]) for each in ("Q14", "Q15", "Q16")}


async def by_tables(filling):
    """Return the answers of the CSV, the TSV and the VCF route."""
    folder = DATA / "phenopackets"
    wanted = expectation("phenopackets/expected.json")
    content = (folder / "subjects_wide.csv").read_bytes()
    one_row = await filling.take("wide.csv", content, wide("file"), wide("remap"))
    assert await answers(one_row, wanted["queries"]) == [
        {name: each[name] for name in ("count", "sha256OfSortedIds", "subjectIds")}
        for each in wanted["queries"]
    ]
    content = (folder / "features_long.tsv").read_bytes()
    tabbed = reading(attribute="packet_id", internalDelimiter="\\t")
    every = await filling.take("all.tsv", content, tabbed, mapping(("status", "eav", [])))
    observed = await filling.take(
        "long.tsv",
        content,
        tabbed | {"rowFilter": {"column": "status", "equals": "observed"}},
        mapping(
            (
                "feature",
                "hpo",
                [{"patternSetType": "basic", "pattern": r"HP:(\d{7})", "replacement": r"\1"}],
            )
        ),
    )
    assert await answers(observed, wanted["queries"][:6]) == [
        {name: each[name] for name in ("count", "sha256OfSortedIds", "subjectIds")}
        for each in wanted["queries"][:6]
    ]
    assert await observed.count() == wanted["figures"]["withAnyObservedHPO"]
    plain = (folder / "variants.vcf").read_bytes()
    found = await by_variants(filling, "variants.vcf", plain)
    assert await by_variants(filling, "variants.vcf.gz", gzip.compress(plain)) == found
    return {
        "variants.vcf": found,
        "subjects_wide.csv": {"rows": one_row.result["rows"]},
        "features_long.tsv": {
            "rows": observed.result["rows"],
            "subjects": await every.count(),
        },
    }


async def cohort(filling, name: str) -> tuple[Asked, dict[str, str]]:
    """Take a table in with an id for each row; return it with the key of each column."""
    content = (DATA / "cohorts" / name).read_bytes()
    columns = content.decode().partition("\n")[0].strip().replace('"', "").split(",")
    source = await filling.take(
        name,
        content,
        reading(prefix="row", batchSize=1),
        mapping(*((column, "eav", []) for column in columns)),
    )
    index = await filling.node.call("GET", f"/sources/{source.source_id}/eav-index")
    keys = {shown: key for key, shown in index.json["attributes"].items()}
    assert set(keys) == set(columns)
    return source, keys


async def counted(source: Asked, keys: dict[str, str], wanted: dict[str, Any]) -> dict[str, Any]:
    found = []
    for one in wanted["queries"]:
        eav = [each | {"attribute": keys[each["attribute"]]} for each in one["query"]["eav"]]
        found.append({"count": await source.count(eav=eav)})
    return {"subjects": await source.count(), "queries": found}


async def by_cohorts(filling):
    """Return the answers of the two clinical tables."""
    wanted = expectation("cohorts/expected.json")
    heart, keys = await cohort(filling, "heart_failure.csv")
    sexes = {}
    for name, value in (("women (sex=0)", 0), ("men (sex=1)", 1)):
        sex = {"attribute": "sex", "relation": "numericEquals", "value": value}
        sexes[name] = await heart.count(eav=[sex])
    found = {"heart_failure.csv": await counted(heart, keys, wanted["heart_failure.csv"]) | sexes}
    lung, keys = await cohort(filling, "lung.csv")
    people = await lung.documents()
    empty = {
        column: missing
        for column, key in keys.items()
        if (missing := sum(key not in one["EAV"] for one in people))
    }
    dotted = {column for column in keys if "." in column}
    assert not any("." in name for one in people for name in one["EAV"])
    found["lung.csv"] = await counted(lung, keys, wanted["lung.csv"]) | {
        # A set has no order; that of the expectation is the file's.
        "attributesWithDots": [
            name for name in wanted["lung.csv"]["attributesWithDots"] if name in dotted
        ],
        "emptyCells": empty,
    }
    assert len(dotted) == len(found["lung.csv"]["attributesWithDots"])
    return found


def named(chrom: object, pos: object, ref: object, alt: object) -> str:
    return f"{chrom}-{pos}-{ref}-{alt}"


def alleles_as_genes(text: str) -> tuple[bytes, list[list[str]]]:
    """Return a VCF in which each ALT allele is a gene, and these names for every site."""
    lines, sites = [], []
    for line in text.splitlines():
        if line.startswith("#CHROM"):
            lines.append('##INFO=<ID=GENE,Number=A,Type=String,Description="allele">')
        if not line.startswith("#"):
            columns = line.split("\t")
            if columns[4] != ".":
                sites.append([named(*columns[:2], columns[3], a) for a in columns[4].split(",")])
                columns[7] = "GENE=" + ",".join(sites[-1])
            line = "\t".join(columns)  # noqa: PLW2901 - the line in its new form
        lines.append(line)
    return "\n".join(lines).encode() + b"\n", sites


async def frequency(source: Asked, name: str, copies: int) -> float:
    """Return copies over twice the subjects, as the local frequency of queries has it too."""
    share = copies / (2 * await source.count())
    for most, is_within in ((share + 1e-9, True), (share - 1e-9, False)):
        if 0 <= most < 1:
            asked = {"genes": [name], "maxAf": most, "useLocalAf": True}
            carriers = await source.count(variant=[asked])
            assert (carriers > 0) == (is_within and copies > 0)
    return round(share, 6)


async def called(filling, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the answers about one VCF, as it is and with its alleles as genes."""
    content = (DATA / "vcf" / name).read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    source = await filling.take(name, content)
    people = await source.documents()
    alleles = {one["subjectId"]: one["EAV"]["variantCount"] for one in people}
    some = {"attribute": "variantCount", "relation": "numericGreaterThan", "value": 0}
    changed, sites = alleles_as_genes(text)
    genes = await filling.take("named.vcf.gz", gzip.compress(changed))
    copies: Counter[str] = Counter()
    for one in await genes.documents():
        copies.update({each["gene"]: each["ac"] for each in one.get("VARIANT", [])})
        assert len(one.get("VARIANT", [])) == alleles[one["subjectId"]]
    nobodys = sum(not any(one in copies for one in site) for site in sites)
    shown = []
    for one in wanted["alleles"]:
        allele = named(*(one[each] for each in ("chrom", "pos", "ref", "alt")))
        shown.append(
            {
                "carriers": await genes.count(variant=[{"genes": [allele], "mutation": []}]),
                "AC": copies[allele],
                "af_all_subjects": await frequency(genes, allele, copies[allele]),
            }
        )
    return {
        "samples": await source.count(),
        "sites": source.result["rows"],
        "altAlleles": len(copies) + nobodys,
        "samplesWithAnyAlt": await source.count(eav=[some]),
        "sitesWithNoCarrier": nobodys,
        "sample": [[each, alleles[each]] for each, _ in wanted["sample"]],
        "alleles": shown,
    }


async def by_calls(filling):
    """Return the answers of the two VCFs without genes."""
    wanted = expectation("vcf/expected.json")
    return {
        name: await called(filling, name, wanted[name]) for name in (KILOGENOMES, "example-4.1.vcf")
    }


ROUTES = {
    "phenopackets/expected.json": by_packets,
    "phenopackets/expected_tables.json": by_tables,
    "cohorts/expected.json": by_cohorts,
    "vcf/expected.json": by_calls,
}


@pytest.fixture(scope="module")
async def known(node):
    """What the node answers to each file of expectations; asked once, in whatever order."""
    filling = await Filling(node).begin()
    found = await asyncio.gather(*(route(filling) for route in ROUTES.values()))
    return dict(zip(ROUTES, found, strict=True))


def corrupted(value: Any, wanted: set[str], path: str = "") -> Any:
    """Return an expectation with the leaves at these paths changed."""
    if isinstance(value, dict) and value:
        return {
            name: corrupted(inner, wanted, f"{path}/{name}".removeprefix("/"))
            for name, inner in value.items()
        }
    if isinstance(value, list) and value:
        return [corrupted(inner, wanted, f"{path}/{at}") for at, inner in enumerate(value)]
    if path not in wanted:
        return value
    return value + 1 if isinstance(value, int | float) else "corrupted"


@pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
class TestExpected:
    @pytest.mark.parametrize("file", ROUTES)
    def test_every_figure_is_met(self, known, file):
        assert differences(file, expectation(file), known[file]) == []

    @pytest.mark.parametrize("file", ROUTES)
    def test_corrupted_figures_are_noticed(self, known, file):
        wanted, answered = expectation(file), known[file]
        paths = set(dict(leaves(answered)))
        # All of them at once, and one of each kind alone.
        assert set(differences(file, corrupted(wanted, paths), answered)) == paths
        for path in {re.sub(r"\d+", "0", path): path for path in sorted(paths)}.values():
            assert differences(file, corrupted(wanted, {path}), answered) == [path]

    def test_all_files_of_expectations_are_read(self):
        found = {str(path.relative_to(DATA)) for path in DATA.rglob("expected*.json")}
        assert found == set(NO_OUTPUT) == set(ROUTES)

    def test_no_answer_is_that_of_a_typical_slip(self, known):
        file = "phenopackets/expected.json"
        for one, found in zip(expectation(file)["queries"], known[file]["queries"], strict=True):
            slips = {value for name, value in one.items() if name.startswith("count_")}
            assert found["count"] not in slips
