"""Prometheus with promtool, and Alertmanager.

Who uses one changes its configuration file, which is written once, and then calls `/-/reload`.
"""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from scripts.services import debian
from scripts.services.asking import LOOPBACK, http_call
from scripts.services.cache import Cache
from scripts.services.errors import NotAvailable
from scripts.services.home import Home
from scripts.services.service import Service

_ALERTMANAGER = "prometheus-alertmanager"
_OK = 200
_SCRAPING_ITSELF = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ["LISTENS"]
"""
_TELLING_NOBODY = """\
route:
  receiver: nobody
  group_wait: 1s
  group_interval: 1s
receivers:
  - name: nobody
"""


class Prometheus(Service):
    """A Prometheus that scrapes itself until it is told more."""

    name: ClassVar[str] = "prometheus"
    what: ClassVar[str] = "Prometheus with promtool"
    start_seconds: ClassVar[float] = 30.0

    def install(self, cache: Cache) -> None:
        """Fetch Debian's package when the machine has none."""
        if debian.program(cache, "prometheus", "prometheus") is None:
            debian.unpack(cache, "prometheus")

    def locate(self, cache: Cache) -> Path:
        """Return the server; `promtool` stands beside it."""
        found = debian.program(cache, "prometheus", "prometheus")
        if found is None:
            debian.need_apt()
            raise self.missing()
        return found

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it with a configuration that can be changed while it runs."""
        program = self.locate(cache)
        listens = f"{LOOPBACK}:{home.ports()['port']}"
        configuration = home.folder / "prometheus.yml"
        if not configuration.exists():
            home.write(configuration.name, _SCRAPING_ITSELF.replace("LISTENS", listens))
        home.write("promtool", str(program.with_name("promtool")))
        return [
            str(program),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={home.sub('data')}",
            f"--web.listen-address={listens}",
            "--web.enable-lifecycle",
        ]

    def answers(self, home: Home) -> bool:
        """Say whether it is ready to be asked."""
        return http_call(f"{self.address(home)}/-/ready")[0] == _OK

    def more(self, home: Home) -> dict[str, Any]:
        """Return where its configuration and its tool are."""
        promtool = (home.folder / "promtool").read_text()
        return {"configuration": str(home.folder / "prometheus.yml"), "promtool": promtool}


class Alertmanager(Service):
    """An Alertmanager that tells nobody until it is told whom."""

    name: ClassVar[str] = "alertmanager"
    what: ClassVar[str] = "Alertmanager"
    start_seconds: ClassVar[float] = 30.0

    def install(self, cache: Cache) -> None:
        """Install Debian's package: the program looks for a template where the package has it."""
        try:
            self.locate(cache)
        except NotAvailable:
            debian.install(_ALERTMANAGER)

    def locate(self, cache: Cache) -> Path:  # noqa: ARG002 - it is never in the cache
        """Return the server."""
        found = shutil.which(_ALERTMANAGER)
        if found is None:
            debian.need_apt()
            raise self.missing()
        return Path(found)

    def command(self, cache: Cache, home: Home) -> list[str]:
        """Start it alone: without an address for its cluster it looks for others."""
        configuration = home.folder / "alertmanager.yml"
        if not configuration.exists():
            home.write(configuration.name, _TELLING_NOBODY)
        return [
            str(self.locate(cache)),
            f"--config.file={configuration}",
            f"--storage.path={home.sub('data')}",
            f"--web.listen-address={LOOPBACK}:{home.ports()['port']}",
            "--cluster.listen-address=",
        ]

    def answers(self, home: Home) -> bool:
        """Say whether it is ready to be asked."""
        return http_call(f"{self.address(home)}/-/ready")[0] == _OK

    def more(self, home: Home) -> dict[str, Any]:
        """Return where its configuration is."""
        return {"configuration": str(home.folder / "alertmanager.yml")}
