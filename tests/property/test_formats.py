"""One table is the same rows in every format, and a VCF the same calls as for a plain reader."""

import io
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cvf_app.files.formats import FileFormat
from cvf_app.pipelines.content import rows_of
from cvf_app.pipelines.model import FilePipeline
from cvf_app.pipelines.vcf import Vcf
from tests.support.naive_vcf import read_plainly
from tests.support.tables import as_csv, as_json, as_lines, as_packed_csv, as_sheet

PIPELINE = FilePipeline(pipeline_name="f")
# Excel takes `=` for a formula, `#` for an error and `_x` for an escape; XML has no surrogates.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=8).filter(
    lambda text: text[:1] not in {"=", "#"} and "_x" not in text
)
NAMES = st.lists(TEXT.map(str.strip).filter(bool), min_size=1, max_size=4, unique=True)
CELLS = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    # As many digits as every program writes; whole ones have no point in a workbook.
    st.floats(-1e6, 1e6).map(lambda number: round(number, 6)).filter(lambda n: n % 1 != 0),
)
CALL = st.lists(
    st.sampled_from(["0", "0", "0", "1", "2", "3", "12", "."]), min_size=1, max_size=3
).flatmap(lambda alleles: st.sampled_from("/|").map(lambda mark: mark.join(alleles)))
REST = st.sampled_from(["", ":1", ":1/1:0|1", ":.", ":99:12,4"])


@st.composite
def tables(draw):
    header = draw(NAMES)
    width = len(header)
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))
    return header, rows


def rows(content: bytes, kind: FileFormat) -> tuple[tuple[str, ...], list[list[str]]]:
    refused: list[object] = []
    table = rows_of(io.BytesIO(content), kind, PIPELINE, refused.append, lambda _: None)
    found = [row.cells for row in table.rows()]
    assert not refused
    return table.header, found


@given(tables())
def test_every_format_gives_the_same_rows(table):
    header, cells = table
    wanted = rows(as_csv(header, cells), "csv")
    assert rows(as_packed_csv(header, cells), "csv") == wanted
    assert rows(as_sheet(header, cells), "xlsx") == wanted
    if cells:
        assert rows(as_json(header, cells), "json") == wanted
        assert rows(as_lines(header, cells), "json") == wanted


@given(
    st.integers(1, 6).flatmap(
        lambda many: st.lists(
            st.lists(st.tuples(CALL, REST), min_size=many, max_size=many), min_size=1, max_size=5
        )
    )
)
def test_calls_are_those_of_a_plain_reader(sites):
    samples = [f"S{place}" for place in range(len(sites[0]))]
    head = "\t".join(
        ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples)
    )
    alts = ",".join("ACGT" * 3)
    body = [
        "\t".join(("1", str(place), ".", "A", alts, ".", ".", ".", "GT:X", *map("".join, calls)))
        for place, calls in enumerate(sites)
    ]
    text = "\n".join(("##fileformat=VCFv4.2", head, *body)) + "\n"
    found: Counter[tuple[int, int, str]] = Counter()
    for site in Vcf(text.encode().splitlines(keepends=True)).sites():
        for sample, counts in site.calls:
            for number, many in counts:
                found[site.pos, number, samples[sample]] += many
    wanted: Counter[tuple[int, int, str]] = Counter()
    for place, plain in enumerate(read_plainly(text)):
        for name, many in plain.copies.items():
            wanted[plain.pos, place % 12 + 1, name] = many
    assert found == wanted
