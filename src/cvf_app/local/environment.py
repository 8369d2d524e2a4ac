"""Virtual environments for local mode, made with the standard library alone.

`CafeVariome3.sh` runs this file with the Python of the machine, before any package is there,
so it imports nothing of ours. It promises: an environment is complete when its mark holds the
digest of its requirement files; a broken or outdated one is completed again; several are made
at the same time; every failure names the one command that mends it.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MARK = ".cv3-requirements"
INSTALLER = "requirements-install.txt"
"""Beside the files of requirements: what installs them faster than pip does."""
_SAY_EVERY_SECONDS = 10.0
_LOG_LINES_SHOWN = 15


class CannotPrepare(Exception):
    """The environment cannot be made; the sentence names what mends it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One virtual environment: its folder and the requirement files that fill it."""

    folder: Path
    requirements: tuple[Path, ...]

    @property
    def python(self) -> Path:
        """Return the interpreter inside."""
        return self.folder / "bin" / "python"

    @property
    def digest(self) -> str:
        """Return what changes with the requirements and with the version of Python."""
        told = hashlib.sha256(f"{sys.version_info[:2]}".encode())
        for file in self.requirements:
            told.update(file.read_bytes())
        return told.hexdigest()

    def is_complete(self) -> bool:
        """Say whether everything is installed as the files ask for it now."""
        mark = self.folder / MARK
        return self.python.exists() and mark.exists() and mark.read_text().strip() == self.digest


def venv_command() -> str | None:
    """Return the command that gives this Python what it lacks to make environments, if any."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return None
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if shutil.which("apt-get"):
        sudo = "" if os.geteuid() == 0 else "sudo "
        return f"{sudo}apt-get install -y python{version}-venv"
    return f"CV3_PYTHON=/path/to/a/complete/python{version} ./CafeVariome3.sh local"


def make(wanted: Wanted) -> None:
    """Make or complete one environment.

    Raises:
        CannotPrepare: says what is missing and what mends it.
    """
    if wanted.is_complete():
        return
    if mend := venv_command():
        raise CannotPrepare(
            f"Python at {sys.executable} cannot make virtual environments. Run: {mend}"
        )
    log = wanted.folder.parent / f"{wanted.folder.name}.log"
    if not wanted.python.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(wanted.folder)], log)
    _install(wanted, log)
    (wanted.folder / MARK).write_text(wanted.digest)
    log.unlink(missing_ok=True)


def _install(wanted: Wanted, log: Path) -> None:
    """Install with uv; with pip where that fails, as where only pip's settings name an index."""
    files = [part for file in wanted.requirements for part in ("-r", str(file))]
    pip = [str(wanted.python), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    uv = [str(wanted.folder / "bin" / "uv"), "pip", "install", "-q", "--compile-bytecode"]
    try:
        _run([*pip, "-r", str(wanted.requirements[0].with_name(INSTALLER))], log)
        _run([*uv, "--python", str(wanted.python), *files], log)
    except CannotPrepare:
        _run([*pip, *files], log)


def link(wanted: Wanted, source: Path) -> None:
    """Let the environment find our sources, and put the command `cvf` into its `bin`."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = wanted.folder / "lib" / version / "site-packages"
    (packages / "cafe_variome.pth").write_text(f"{source}\n")
    command = wanted.folder / "bin" / "cvf"
    # A shell line, because a "#!" line is cut off at 127 characters and breaks at a space.
    command.write_text(f'#!/bin/sh\nexec "{wanted.python}" -m cvf_app.console "$@"\n')
    command.chmod(0o755)


def _run(command: list[str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        ended = subprocess.run(command, stdout=out, stderr=out, check=False)
    if ended.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:])
        again = "./CafeVariome3.sh local"
        raise CannotPrepare(
            f"This failed: {' '.join(command)}\n{tail}\n"
            f"The whole output is in {log}. When the cause is mended, run again: {again}"
        )


def make_all(all_wanted: list[Wanted]) -> list[CannotPrepare]:
    """Make several environments at the same time, saying what happens; return what failed."""
    open_ones = [wanted for wanted in all_wanted if not wanted.is_complete()]
    failures: list[CannotPrepare] = []

    def attempt(wanted: Wanted) -> None:
        try:
            make(wanted)
        except CannotPrepare as failure:
            failures.append(failure)

    threads = [threading.Thread(target=attempt, args=(wanted,)) for wanted in open_ones]
    began = time.monotonic()
    for wanted in open_ones:
        _say(f"Installing into {wanted.folder} ...")
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_SAY_EVERY_SECONDS)
            if thread.is_alive():
                _say(f"  still installing ({time.monotonic() - began:.0f} s)")
    if open_ones and not failures:
        _say(f"Installed in {time.monotonic() - began:.0f} s.")
    return failures


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Make the environments that the command line names; 0 when all are complete, else 4."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", action="append", type=Path, required=True)
    parser.add_argument("--requirements", action="append", type=Path, nargs="+", required=True)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--owner", type=Path, help="the environment that gets our sources and cvf")
    given = parser.parse_args(arguments)
    all_wanted = [
        Wanted(folder=folder, requirements=tuple(files))
        for folder, files in zip(given.venv, given.requirements, strict=True)
    ]
    failures = make_all(all_wanted)
    for failure in failures:
        _say(str(failure))
    if failures:
        return 4
    for wanted in all_wanted:
        if given.source and wanted.folder == given.owner:
            link(wanted, given.source)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
