"""Build the single-file binary `dist/cafe-variome` with PyInstaller (requirements-dev.txt).

It carries Python and every package, and needs the C library of the machine it was built on or a
newer one: build on the oldest system that it is to run on.
"""

import argparse
import os
import sys
import tomllib
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from PyInstaller.__main__ import run

ROOT = Path(__file__).resolve().parent.parent
WHOLE = ("cvf_app", "hypercorn", "docket", "uvloop")
"""Packages that are found by name while they run, not by an import that can be read."""
VERSIONS = ("quart", "pydocket", "opentelemetry-api")
"""What is asked for its version while it runs."""
DATA = ("flask_swagger_ui", "docket", "pint", "hvac", "keycloak")
"""Packages that read files of their own."""
UNWANTED = ("hypothesis", "mypy", "pytest")
"""Tools of development that a library would use if they were there."""


def arguments(out: Path) -> list[str]:
    """Return the command line of PyInstaller."""
    given = ["--onefile", "--name", "cafe-variome", "--noconfirm", "--log-level", "WARN"]
    given += ["--distpath", str(out), "--workpath", str(ROOT / "build" / "binary")]
    given += ["--specpath", str(ROOT / "build" / "binary"), "--paths", str(ROOT / "src")]
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    work = ROOT / "build" / "binary"
    work.mkdir(parents=True, exist_ok=True)
    (work / "VERSION").write_text(told)
    # Migrations are read from their folder, and not from the archive that modules lie in.
    numbered = "cvf_app/migrations/numbered"
    beside = {"openapi": "cvf_app/openapi", "build/binary/VERSION": "cvf_app"}
    for source, target in (beside | {f"src/{numbered}": numbered}).items():
        given += ["--add-data", f"{ROOT / source}{os.pathsep}{target}"]
    for name in WHOLE:
        if name == "cvf_app" or find_spec(name):
            given += ["--collect-submodules", name]
    for name in filter(find_spec, DATA):
        given += ["--collect-data", name]
    given += ["--collect-data", "cvf_app"]
    for name in UNWANTED:
        given += ["--exclude-module", name]
    installed = {each.metadata["Name"] for each in distributions()}
    for name in installed.intersection(VERSIONS):
        given += ["--copy-metadata", name]
    return [*given, str(ROOT / "scripts" / "binary_entry.py")]


def main() -> int:
    """Build it where the command line says."""
    described = argparse.ArgumentParser(description=__doc__)
    described.add_argument("--out", type=Path, default=ROOT / "dist")
    given = described.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    run(arguments(given.out))
    print(given.out / "cafe-variome")
    return 0


if __name__ == "__main__":
    sys.exit(main())
