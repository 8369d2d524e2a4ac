"""Whatever the cells are, every subject with an id in the table is among the subjects."""

import csv
import io
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cvf_app.pipelines.take_in import Reading, take_in
from cvf_app.wire import convert

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
PIPELINES = {
    "filePipeline": {"pipelineType": "filePipeline", "pipelineName": "f", "attribute": "id"},
    "remapPipeline": {
        "pipelineType": "remapPipeline",
        "pipelineName": "r",
        "directives": [
            {
                "directiveType": "termSet",
                "origin": "a",
                "destination": destination,
                "patternSets": [
                    {"patternSetType": "basic", "pattern": r"\w+", "replacement": r"\g<0>"}
                ],
            }
            for destination in ("hpo", "ordo", "gene", "snomedCT", "eav", "ncit")
        ],
    },
}


class TestRemap:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(TEXT, TEXT), max_size=20))
    def test_loses_no_subject(self, rows: list[tuple[str, str]]) -> None:
        table = io.StringIO()
        csv.writer(table).writerows([("id", "a"), *rows])
        with tempfile.TemporaryDirectory() as folder:
            path, target = Path(folder, "in"), Path(folder, "out")
            path.write_bytes(table.getvalue().encode())
            task = {
                "path": str(path),
                "fileFormat": "csv",
                "filename": "x.csv",
                "sourceId": "s",
                "target": str(target),
                **PIPELINES,
            }
            report = take_in(convert(task, Reading), lambda _: None)
            found = [
                json.loads(line)["subjectId"] for line in target.read_bytes().split(b"\n")[:-1]
            ]
        wanted = list(dict.fromkeys(name.strip() for name, _ in rows if name.strip()))
        assert found == wanted
        assert report.subjects == len(wanted)
