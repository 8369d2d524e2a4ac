import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_house.py"


@pytest.fixture
def house(tmp_path):
    spec = importlib.util.spec_from_file_location("check_house", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SOURCE = tmp_path
    return module


class TestCheckHouse:
    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("records/service.py", "SourceAnswer(exist=True)"),
            ("records/service.py", "asyncio.create_task(x())"),
            ("records/service.py", "try:\n    pass\nexcept Exception:\n    pass"),
            ("records/service.py", "import os\nos.environ"),
            ("records/service.py", "from cvf_app.sources.store import SourceStore"),
            ("sources/store.py", "collection.watch()"),
            ("sources/utils.py", "x = 1"),
            ("sources/long.py", "x = 1\n" * 500),
        ],
    )
    def test_each_breach_is_found(self, house, tmp_path, name, line):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(line)
        assert len(list(house.breaches(path))) == 1

    def test_an_escape_needs_its_comment(self, house, tmp_path):
        path = tmp_path / "a.py"
        path.write_text("import os\nos.environ  # house: the launcher reads it\n")
        assert list(house.breaches(path)) == []
