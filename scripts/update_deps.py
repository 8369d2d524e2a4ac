"""Pin the newest versions that go together in requirement files; the reasons behind `#` stay.

Resolves with pip's own resolver in a dry run; nothing is installed. Exact pins are moved, other
bounds stay as they are.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(?P<extra>\[[^\]]*\])?==(?P<version>[^\s#;]+)(?P<rest>.*)$"
)


def main(files: list[str]) -> int:
    """Rewrite the files and print what moved."""
    lines = {file: Path(file).read_text().splitlines() for file in files}
    wanted = [_loosened(line) for several in lines.values() for line in several]
    found = newest([line for line in wanted if line and not line.startswith("#")])
    for file, several in lines.items():
        Path(file).write_text("\n".join(_moved(line, found) for line in several) + "\n")
    return 0


def newest(wanted: list[str]) -> dict[str, str]:
    """Return the version of each package that pip would install for these."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as given:
        given.write("\n".join(wanted))
        given.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", "-", "-r", given.name]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    packages = (each["metadata"] for each in told["install"])
    return {_key(each["name"]): each["version"] for each in packages}


def _loosened(line: str) -> str:
    pin = _PIN.match(line)
    return f"{pin['name']}{pin['extra'] or ''}" if pin else line.partition("#")[0].strip()


def _moved(line: str, found: dict[str, str]) -> str:
    pin = _PIN.match(line)
    if pin is None:
        return line
    version = found.get(_key(pin["name"]), pin["version"])
    if version != pin["version"]:
        print(f"{pin['name']}: {pin['version']} -> {version}")
    return f"{pin['name']}{pin['extra'] or ''}=={version}{pin['rest']}"


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
