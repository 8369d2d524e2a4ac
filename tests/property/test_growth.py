"""A generation that grew by small changes answers as one that was built anew, whatever changed."""

import tempfile
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.marks import gathered
from cvf_app.engine.segments import Generation
from cvf_app.records.compile import compile_query
from cvf_app.sources.batches import cut
from cvf_app.sources.building import Building, Built, build_generation
from cvf_app.wire import encode
from tests.support import cases
from tests.support.house import documents

STEPS = 5
QUERIES = 8


class Source:
    """Files of subjects in order, and the generation that grew by every change of them."""

    def __init__(self, random: Random, folder: Path):
        self.random, self.folder = random, folder
        self.files: dict[str, Path] = {"0": self._write()}
        self.number = 0
        self.built = self._build("0")

    def change(self) -> None:
        """Add, replace or delete a file, and let the generation grow."""
        name = str(self.random.randint(0, 4))
        gone = [self.files[name]] if name in self.files else []
        if gone and len(self.files) > 1 and self.random.random() < 0.4:
            del self.files[name]
            fresh = []
        else:
            fresh = [self._write()]
            self.files[name] = fresh[0]
        marks = gathered(batch.marks for path in (*gone, *fresh) for batch in cut(path))
        touched = self.folder / "touched"
        touched.write_bytes(marks.tobytes())
        old = str(self.folder / f"generation-{self.number}")
        self.number += 1
        self.built = self._build(str(self.number), old=old, touched=str(touched))

    def differences(self) -> list[str]:
        """Build everything anew, and tell where the grown generation answers otherwise."""
        whole = self._build("whole")
        found = [] if whole == self.built else [f"{self.built} is not {whole}"]
        grown, anew = self._open(str(self.number)), self._open("whole")
        if documents(grown) != documents(anew):
            found.append("documents")
        for _ in range(QUERIES):
            query = cases.query(self.random)
            plan = compile_query(query)
            one, other = evaluate(grown, plan), evaluate(anew, plan)
            if sorted(one.ids()) != sorted(other.ids()) or one.count != other.count:
                found.append(f"{query}: {one.ids()} is not {other.ids()}")
            if one.ignored != other.ignored:
                found.append(f"{query}: ignored {one.ignored}")
        grown.close()
        anew.close()
        return found

    def _write(self) -> Path:
        path = Path(tempfile.mkstemp(dir=self.folder)[1])
        first, count = self.random.randint(0, 30), self.random.randint(1, 12)
        made = cases.subjects(self.random, count, first=first)
        path.write_bytes(b"".join(encode(one) + b"\n" for one in made))
        return path

    def _build(self, name: str, **old: str) -> Built:
        task = Building(
            inputs=tuple(map(str, self.files.values())),
            spill=str(self.folder / "spill"),
            folder=str(self.folder / f"generation-{name}"),
            expected=1,
            **old,
        )
        return build_generation(task, lambda _: None)

    def _open(self, name: str) -> Generation:
        return Generation.open(self.folder / f"generation-{name}")


class TestGrowth:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**63))
    def test_any_sequence_of_changes_answers_as_a_whole_build(self, seed: int):
        with tempfile.TemporaryDirectory() as folder:
            source = Source(Random(seed), Path(folder))
            for _ in range(STEPS):
                source.change()
                assert source.differences() == []
