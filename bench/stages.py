"""The stages of an ingest alone, each in a process of its own: reading, cutting, building.

Writing to the database is not here: it is what is left between these and the whole.
"""

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.measure import in_child
from bench.tables import file_pipeline, remap_pipeline
from cvf_app.ids import SourceId
from cvf_app.pipelines.model import FilePipeline, RemapPipeline
from cvf_app.pipelines.take_in import Reading, take_in
from cvf_app.sources.batches import cut
from cvf_app.sources.building import Building, build_generation
from cvf_app.wire import convert

_FORMATS = {"phenopackets": "phenopacket"}
_PIPELINES = {
    "csv": (file_pipeline("file"), remap_pipeline("columns")),
    "xlsx": (file_pipeline("file"), remap_pipeline("columns")),
}


def show(files: list[tuple[str, Path, int]], folder: Path) -> None:
    """Print the stages of each file, given with its format and the number of its subjects."""
    print(f"\n{'stages alone, subjects/s':26}{'reading':>10}{'cutting':>10}{'building':>10}")
    for kind, path, subjects in files:
        work = folder / f"stages-{kind}"
        work.mkdir()
        times = in_child(run, kind, str(path), subjects, str(work))
        print(f"{kind:26}" + "".join(f"{subjects / took:10,.0f}" for took in times), flush=True)


def run(kind: str, path: str, subjects: int, work: str, answer: "Connection[Any, Any]") -> None:
    """Take a file through the stages and answer their seconds."""
    target = Path(work) / "all.subjects"
    ways = _PIPELINES.get(kind)
    reading = Reading(
        path=path,
        file_format=convert(_FORMATS.get(kind, kind), str),  # type: ignore[arg-type]  # a Literal
        filename=Path(path).name,
        source_id=SourceId("bench"),
        target=str(target),
        cores=os.cpu_count() or 1,
        file_pipeline=convert(ways[0], FilePipeline) if ways else None,
        remap_pipeline=convert(ways[1], RemapPipeline) if ways else None,
    )
    begin = time.perf_counter()
    take_in(reading, lambda _: None)
    read = time.perf_counter()
    for _ in cut(target):
        pass
    cutted = time.perf_counter()
    building = Building(
        inputs=(str(target),),
        spill=f"{work}/spill",
        folder=f"{work}/generation",
        expected=subjects,
    )
    build_generation(building, lambda _: None)
    answer.send((read - begin, cutted - read, time.perf_counter() - cutted))
