"""The served app against its own description: what it answers is what `openapi/` promises.

An administrator sends what the description allows, and a little that it does not, to a real node
that runs in a thread of its own. The examples are seeded, so a failure is the same tomorrow.

Two kinds of operation are left out: event streams, which have no end to wait for (they are read
in `test_records.py`, `test_jobs.py` and `test_updates.py`), and the chunks of an upload, which need
a token made for their own source (`test_ingest.py`).
"""

import asyncio
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cvf_app.web.openapi_bundle import FOLDER, bundle
from tests.support import nodes

_START_SECONDS = 60
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
described = schemathesis.openapi.from_dict(bundle(FOLDER / "openapi-all.json"))
sendable = described.exclude(path_regex="/events$|^/updates").exclude(path_regex="/upload$")


class Served:
    """A node with an event loop and a thread of its own: Schemathesis waits for its answers."""

    def __init__(self, folder, mongo_url, redis_url):
        self._places = (folder, mongo_url, redis_url)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="served-node")
        self._fault = None
        self.node = None
        self.known = {}

    def __enter__(self):
        self._thread.start()
        if not self._ready.wait(_START_SECONDS) or self._fault:
            raise RuntimeError("The node did not start.") from self._fault
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self):
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as fault:  # noqa: BLE001 - it is raised where the test waits
            self._fault = fault
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self):
        async with nodes.node(*self._places) as node:
            self.node = node
            self.known = await _things(node)
            self._ready.set()
            await self._stop.wait()

    def send(self, case):
        """Send a case as the administrator, every other one to a thing that is there."""
        if case.method != "DELETE" and len(str(case.path_parameters)) % 2:
            for name in case.path_parameters or ():
                case.path_parameters[name] = self.known.get(name, case.path_parameters[name])
        case.headers["Authorization"] = f"Bearer {self.node.issuer.token('admin')}"
        return case.call_and_validate(base_url=self.node.address, checks=CHECKS, timeout=30)


async def _things(node):
    """Make one thing of each kind, so that not every id leads to nothing."""
    source = await node.source("described")
    file = await node.upload(source, "packets.json", b'[{"id": "one", "subject": {"id": "one"}}]')
    job = await node.ingest(source, file)
    user = await node.person("describedperson")
    group = await node.group("count", [user], [source])
    query = await node.call("POST", "/record/", json={})
    networks = await node.call("GET", "/networks/")
    return {
        "source_id": source,
        "data_file_id": file,
        "job_id": job["jobId"],
        "user_id": user,
        "group_id": group,
        "query_id": query.json["queryID"],
        "network_id": networks.json[0]["networkId"],
        "name": "openapi-query.json",
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory, mongo_url, redis_url):
    with Served(tmp_path_factory.mktemp("described"), mongo_url, redis_url) as made:
        yield made


def whole(value):
    """Spell whole numbers as integers: JSON Schema takes 139.0 for one, and we refuse it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return value


@sendable.hook("map_body")
def spell_numbers(_context, body):
    return whole(body)


# A job that an earlier example began draws random numbers in the node's thread meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
class TestDescription:
    @sendable.parametrize()
    @settings(
        max_examples=8,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def test_the_app_answers_as_described(self, case, served):
        served.send(case)
