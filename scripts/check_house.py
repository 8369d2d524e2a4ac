"""Check the rules of the house that no linter knows; prints each breach and exits 1 if there is one.

A line may escape a rule by ending in `# house: <reason>`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "cvf_app"
BROAD = {"web/errors.py", "jobs/worker.py", "loops.py"}
NAMES = {"utils", "helpers", "common", "base", "core", "etc", "manager"}
LONGEST = 450


def breaches(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and sentence of every breach in one file."""
    name = path.relative_to(SOURCE).as_posix()
    text = path.read_text()
    lines = text.splitlines()
    if path.stem in NAMES or path.parent.name in NAMES:
        yield 1, "this name says nothing about what lives here"
    if len(lines) > LONGEST:
        yield len(lines), f"over {LONGEST} lines: a noun inside is looking for a file of its own"
    for node in ast.walk(ast.parse(text)):
        line = getattr(node, "lineno", 0)
        if line and "# house:" in lines[line - 1]:
            continue
        yield from _node(node, name, line)


def _node(node: ast.AST, name: str, line: int) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.split(".")[-1] == "SourceAnswer" and name != "records/disclose.py":
            yield line, "SourceAnswer is built only in records/disclose.py"
        if called in {"asyncio.create_task", "asyncio.ensure_future"} and name != "loops.py":
            yield line, "tasks are made only in loops.py"
    if isinstance(node, ast.ExceptHandler):
        caught = ast.unparse(node.type) if node.type else "BaseException"
        if re.search(r"\b(Base)?Exception\b", caught) and name not in BROAD:
            yield line, f"broad catches stand only in {', '.join(sorted(BROAD))}"
    if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}:
        if name != "config.py" and not name.startswith(("local/", "console/")):
            yield line, "only config.py reads the environment"
    if isinstance(node, ast.ImportFrom) and node.module:
        found = re.fullmatch(r"cvf_app\.(\w+)\.store", node.module)
        if found and name != "assembly.py" and not name.startswith(f"{found[1]}/"):
            yield line, "a store is used only by the service of its own feature"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and name.endswith("store.py"):
        if re.search(r"start_transaction|\.watch\(", node.value):
            yield line, "no transactions and no change streams"


def main() -> int:
    """Check every file of the package."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {sentence}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, sentence in breaches(path)
    ]
    print("\n".join(found) if found else "The house is in order.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
