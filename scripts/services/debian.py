"""Programs of Debian: those of the PATH, else from its packages.

Unpacked into the cache where that is enough: nobody has to be root, and no package starts a daemon
of its own. Installed for the whole system, as root, where a program looks for its files in fixed
places; its daemons are kept from starting while that is done.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scripts.services.cache import Cache, run, say
from scripts.services.errors import Failed, NotAvailable
from scripts.services.home import Home
from scripts.services.service import Service, need

_POLICY = Path("/usr/sbin/policy-rc.d")
_START_NOTHING = "#!/bin/sh\nexit 101\n"


def program(cache: Cache, name: str, package: str) -> Path | None:
    """Return a program of the PATH, else of the unpacked package, else none."""
    found = shutil.which(name)
    if found:
        return Path(found)
    unpacked = cache.path(_place(package)) / "usr" / "bin" / name
    return unpacked if unpacked.exists() else None


def need_apt() -> None:
    """See that packages can be fetched.

    Raises:
        NotAvailable: this is no Debian.
    """
    for name in ("apt-get", "dpkg-deb"):
        need(name, "and packages of Debian are fetched with it", "install the program by hand")


def unpack(cache: Cache, package: str) -> None:
    """Fetch a package and unpack it into the cache."""
    need_apt()
    cache.make(_place(package), "fetching Debian's package", partial(_unpack, package))


def install(package: str) -> None:
    """Install a package and what it needs for the whole system.

    Raises:
        NotAvailable: this is no Debian, or we are not root.
        Failed: that went wrong.
    """
    need_apt()
    if os.geteuid():
        raise NotAvailable(f"its package is installed for the whole system: {_as_root(package)}")
    say(f"{package}: installing Debian's package …")
    here = Path("/")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"]
    command = ["apt-get", *options, "install", package]
    with _no_daemons():
        try:
            run(command, here, quiet)
        except Failed:
            # Lists of packages that are missing or old.
            run(["apt-get", "-qq", "update"], here, quiet)
            run(command, here, quiet)


def _as_root(package: str) -> str:
    return f"run as root: apt-get install {package}"


class Chromium(Service):
    """The browser; nothing is started, a test drives it itself (Playwright, `--no-sandbox`)."""

    name: ClassVar[str] = "chromium"
    what: ClassVar[str] = "Chromium"
    port_names: ClassVar[tuple[str, ...]] = ()
    _NAMES = ("chromium", "chromium-browser", "google-chrome")

    def install(self, cache: Cache) -> None:
        """Install Debian's package; its many libraries make it one for the whole system."""
        try:
            self.locate(cache)
        except NotAvailable:
            install("chromium")

    def locate(self, cache: Cache) -> Path:  # noqa: ARG002 - it is never in the cache
        """Return the browser."""
        for name in self._NAMES:
            found = shutil.which(name)
            if found:
                return Path(found)
        need_apt()
        raise self.missing()

    def command(self, cache: Cache, home: Home) -> list[str]:  # noqa: ARG002 - nothing to start
        """Return nothing: it is started by who drives it."""
        return []

    def answers(self, home: Home) -> bool:  # noqa: ARG002 - nothing to ask
        """Say that it is there; `locate` has seen it."""
        return True

    def more(self, home: Home) -> dict[str, Any]:  # noqa: ARG002 - the same for all data folders
        """Return where it is."""
        found = next(path for name in self._NAMES if (path := shutil.which(name)))
        return {"state": "found", "program": found}


def _place(package: str) -> str:
    return f"debian-{package}"


def _unpack(package: str, folder: Path) -> None:
    fetched = folder / "fetched"
    fetched.mkdir()
    # Root's apt wants to fetch as another user, who cannot write here.
    fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    try:
        run(fetch, fetched)
    except Failed:
        if os.geteuid():
            raise
        # A fresh container has no lists of packages.
        run(["apt-get", "-qq", "update"], fetched)
        run(fetch, fetched)
    for archive in fetched.iterdir():
        run(["dpkg-deb", "-x", str(archive), str(folder)], folder)
    shutil.rmtree(fetched)


@contextmanager
def _no_daemons() -> Iterator[None]:
    """Keep packages from starting daemons until the end of the block; put back what was there."""
    before = _POLICY.read_bytes() if _POLICY.exists() else None
    mode = _POLICY.stat().st_mode if before is not None else 0
    _POLICY.write_text(_START_NOTHING)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            _POLICY.unlink()
        else:
            _POLICY.write_bytes(before)
            _POLICY.chmod(mode)
