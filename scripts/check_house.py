"""Check the rules of the house that no linter knows; print each breach, exit 1 if there is one.

A line may escape a rule by ending in `# house: <reason>`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "cvf_app"
BROAD = {"web/errors.py", "jobs/worker.py", "loops.py", "in_child.py"}
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
    for rule in (_calls, _catches, _environment, _stores):
        sentence = rule(node, name)
        if sentence:
            yield line, sentence


def _calls(node: ast.AST, name: str) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    if called.split(".")[-1] == "SourceAnswer" and name != "records/disclose.py":
        return "SourceAnswer is built only in records/disclose.py"
    if called in {"asyncio.create_task", "asyncio.ensure_future"} and name != "loops.py":
        return "tasks are made only in loops.py"
    return None


def _catches(node: ast.AST, name: str) -> str | None:
    if not isinstance(node, ast.ExceptHandler) or name in BROAD:
        return None
    caught = ast.unparse(node.type) if node.type else "BaseException"
    if re.search(r"\b(Base)?Exception\b", caught):
        return f"broad catches stand only in {', '.join(sorted(BROAD))}"
    return None


def _environment(node: ast.AST, name: str) -> str | None:
    if not isinstance(node, ast.Attribute) or name.startswith(("local/", "console/")):
        return None
    if ast.unparse(node) in {"os.environ", "os.getenv"} and name != "config/loading.py":
        return "only config/loading.py reads the environment"
    return None


def _stores(node: ast.AST, name: str) -> str | None:
    if isinstance(node, ast.ImportFrom) and node.module and not name.startswith("assembly/"):
        found = re.fullmatch(r"cvf_app\.(\w+)\.store", node.module)
        if found and not name.startswith(f"{found[1]}/"):
            return "a store is used only by the service of its own feature"
    cluster_only = isinstance(node, ast.Attribute) and node.attr in {"start_transaction", "watch"}
    if cluster_only and name.endswith("store.py"):
        return "no transactions and no change streams: a standalone database is enough"
    return None


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
