"""The files that `bench/ingest.py` takes in: one maker for each format, seeded.

Every maker writes so many subjects and returns how many it wrote. A VCF has its subjects side by
side, each a column, so that it grows in width; its sites stay as many.
"""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from bench.tables import COLUMNS, Table
from cvf_app.console.sample import phenopackets

SEED = 7
SITES = 1000
SUBJECTS_PER_SAMPLE = 50
"""A VCF has this many times fewer subjects than the other files: a cohort, not a registry."""
_CARRIERS = 0.03
_CONSEQUENCES = ("missense_variant", "stop_gained", "frameshift_variant", "synonymous_variant")
_SHEET = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"""
_PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
        '<Override PartName="/xl/sharedStrings.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<sheets><sheet name="people" sheetId="1" r:id="r1"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
        'Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" '
        'Target="sharedStrings.xml"/></Relationships>'
    ),
}


def write_csv(path: Path, subjects: int) -> int:
    """Write a table of 20 columns, one subject a row."""
    Table(subjects, SEED).write(path)
    return subjects


def write_packets(path: Path, subjects: int) -> int:
    """Write phenopackets, one a line."""
    with path.open("w", encoding="utf-8") as out:
        for packet in phenopackets(subjects, SEED):
            out.write(json.dumps(packet, separators=(",", ":")) + "\n")
    return subjects


def write_xlsx(path: Path, subjects: int) -> int:
    """Write the table of `write_csv` as a spreadsheet, its texts shared as office programs do."""
    texts: dict[str, int] = {}

    def cell(text: str) -> str:
        number = text.replace(".", "", 1)
        if number.isascii() and number.isdigit():
            return f"<c><v>{text}</v></c>"
        return f'<c t="s"><v>{texts.setdefault(text, len(texts))}</v></c>'

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as packed:
        for name, part in _PARTS.items():
            packed.writestr(name, part)
        with packed.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            header = "".join(cell(name) for name in COLUMNS)
            sheet.write(f"{_SHEET}<row>{header}</row>".encode())
            for _, lines in Table(subjects, SEED).blocks():
                rows = (line.decode().rstrip("\n").split(",") for line in lines)
                made = ("<row>" + "".join(map(cell, row)) + "</row>" for row in rows)
                sheet.write("".join(made).encode())
            sheet.write(b"</sheetData></worksheet>")
        with packed.open("xl/sharedStrings.xml", "w", force_zip64=True) as shared:
            head = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
            shared.write(head.encode())
            for text in texts:
                shared.write(f"<si><t>{escape(text)}</t></si>".encode())
            shared.write(b"</sst>")
    return subjects


def write_vcf(path: Path, subjects: int) -> int:
    """Write a VCF with consequences as VEP tells them; of its subjects some carry each site."""
    samples = max(1, subjects // SUBJECTS_PER_SAMPLE)
    draw = np.random.default_rng(SEED)
    chance = random.Random(SEED)
    names = "\t".join(f"S{number:06d}" for number in range(samples))
    with path.open("w", encoding="utf-8") as out:
        out.write("##fileformat=VCFv4.3\n##contig=<ID=1>\n")
        out.write('##INFO=<ID=CSQ,Number=.,Type=String,Description="Consequence annotations from ')
        out.write('Ensembl VEP. Format: Allele|Consequence|IMPACT|SYMBOL|Gene">\n')
        out.write('##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n')
        out.write('##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">\n')
        out.write(f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}\n")
        for site in range(SITES):
            calls = [f"0/0:{20 + (site + number) % 30}" for number in range(samples)]
            for at in np.flatnonzero(draw.random(samples) < _CARRIERS):
                calls[at] = "1/1:31" if chance.random() < 0.1 else "0/1:27"
            # Somebody carries every site and everybody a site, so that nobody is left out.
            calls[site % samples] = "0/1:33"
            consequence = chance.choice(_CONSEQUENCES)
            info = f"CSQ=T|{consequence}|MODERATE|GENE{site % 400}|ENSG{site % 400:06d}"
            fixed = f"1\t{1000 + 100 * site}\t.\tC\tT\t99\tPASS\t{info}\tGT:DP\t"
            out.write(fixed + "\t".join(calls) + "\n")
    return samples


MAKERS: dict[str, tuple[str, Callable[[Path, int], int]]] = {
    "csv": ("table.csv", write_csv),
    "phenopackets": ("people.json", write_packets),
    "xlsx": ("table.xlsx", write_xlsx),
    "vcf": ("cohort.vcf", write_vcf),
}
"""The name of the file and its maker, by format."""
