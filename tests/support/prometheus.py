"""A real Prometheus and its promtool for tests: on the PATH, or in the cache of the services."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import table
from tests.support.services import Program, free_port, missing

_CACHE = Path.home() / ".cache" / "cafe-variome-services"


def find(name: str) -> str:
    """Return a program of Prometheus.

    Raises:
        Missing: it is neither on the PATH nor in the cache.
    """
    cache = Path(os.environ.get("CV3_SERVICES_CACHE", _CACHE))
    unpacked = cache / "debian-prometheus" / "usr" / "bin" / name
    found = shutil.which(name) or (str(unpacked) if unpacked.exists() else None)
    if found is None:
        reason = f"{name} is not here: install it with scripts/services.sh install prometheus"
        raise missing("prometheus", reason)
    return found


def promtool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run promtool."""
    command = [find("promtool"), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False, timeout=60)


@contextmanager
def prometheus(folder: Path, configuration: str) -> Iterator[str]:
    """Run Prometheus with this configuration; give its address."""
    program, port = find("prometheus"), free_port()
    (folder / "prometheus.yml").write_text(configuration)
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/d"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    address = f"http://127.0.0.1:{port}"
    server = Program(command, folder, ("127.0.0.1", port), address)
    table.real("prometheus", "started here")
    try:
        server.start()
        yield address
    finally:
        server.stop()
