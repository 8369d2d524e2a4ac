"""What all tests share: no sockets where none are needed, a spare app, the table of services."""

import json
import os
from dataclasses import astuple
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_socket
from hypothesis import HealthCheck, settings

from cvf_app.assembly import create_app
from cvf_app.config import load
from cvf_app.duties import parse
from tests.support import nodes, servers, services, table
from tests.support import realm as realms
from tests.support.shared import NO_SHARED

settings.register_profile(
    "quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "long", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")


# What takes longest begins first, or one of several processes is left with it at the end.
LONGEST = (
    "test_fault_points.py",
    "test_faults_full_people.py",
    "test_full_mode_operation.py",
    "test_attributes.py",
    "test_vault.py",
    "test_keycloak.py",
    "test_services.py",
    "test_backup.py",
    "test_local_mode.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the longest files; the rest stays in the order that it has."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over what a process of a run in several noted in its table."""
    rows = getattr(node, "workeroutput", {}).get("rows", ())
    table.ROWS.update(table.Row(*row) for row in rows)


def pytest_runtest_setup(item):
    if {"unit", "property"} & set(Path(item.fspath).parts):
        pytest_socket.disable_socket(allow_unix_socket=True)


def pytest_runtest_teardown():
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """A configuration of local mode; nothing of it is connected to before the app is served."""
    folder = tmp_path_factory.mktemp("instance")
    file = folder / "instance_config.json"
    file.write_text(
        json.dumps(
            {
                "Mode": "local",
                "Data": {"UploadPath": str(folder / "data")},
                "Identity": {"Provider": "oidc", "Issuer": "http://127.0.0.1:1", "Client": "test"},
                "Secrets": {"Provider": "file", "Path": str(folder / "keys")},
                "Metrics": {"Prometheus": {"Enabled": True}},
            }
        )
    )
    return load(file)


@pytest.fixture(scope="session")
def app(config):
    """The whole app with all duties, not served: its routes can be looked at."""
    return create_app(config, parse(""))


@pytest.fixture(scope="session")
def mongo_url():
    """A real server of the MongoDB protocol."""
    try:
        with services.mongodb() as url:
            yield url
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def redis_url():
    """A real Redis or Valkey."""
    try:
        with services.redis() as url:
            yield url
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
async def node(tmp_path_factory, mongo_url, redis_url):
    """One whole instance, served on loopback for all tests of the session.

    `CV3_TEST_SHAPE` names a shape of `nodes.SHAPES`: the same tests on real processes.
    """
    folder = tmp_path_factory.mktemp("node")
    shape = os.environ.get("CV3_TEST_SHAPE")
    serving = (
        nodes.kept(folder, mongo_url, redis_url, nodes.SHAPES[shape])
        if shape
        else nodes.node(folder, mongo_url, redis_url)
    )
    async with serving as made:
        yield made


def _one(name):
    """Give one server of full mode for the whole session, or skip with the reason."""
    try:
        with servers.running(name) as server:
            yield server
    except services.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def keycloak():
    """A real Keycloak (`servers.Keycloak`); a test makes a realm of its own in it."""
    yield from _one("keycloak")


@pytest.fixture(scope="session")
def vault():
    """A real Vault (`servers.Vault`), unsealed; who seals it takes one of their own."""
    yield from _one("vault")


@pytest.fixture(scope="session")
def smtp():
    """A mail server that keeps what it gets (`servers.Smtp`)."""
    yield from _one("smtp")


@pytest.fixture(scope="session")
def prometheus():
    """A real Prometheus with promtool (`servers.Prometheus`)."""
    yield from _one("prometheus")


@pytest.fixture(scope="session")
def oidc_provider():
    """The certified OpenID provider of npm (`servers.OidcProvider`)."""
    yield from _one("oidc-provider")


@pytest.fixture(scope="session")
def realm(keycloak, smtp, tmp_path_factory):
    """A realm in a real Keycloak, made by the setup script, that mails to a real mail server."""
    made = realms.Realm(
        address=keycloak.address,
        name=f"cv3-{uuid4().hex[:8]}",
        username=keycloak.username,
        password=keycloak.password,
        folder=tmp_path_factory.mktemp("realm"),
    )
    made.configure(
        Email={
            "From": {"Address": "cafe-variome@example.org", "Name": "Cafe Variome"},
            "SMTP": {"Host": smtp.host, "Port": smtp.plain_port, "Security": "none"},
        }
    )
    done = made.set_up()
    assert done.returncode == 0, done.stdout + done.stderr
    yield made
    made.admin().delete_realm(made.name)


ALLOWED_SKIPS = (
    # No package ships a MongoDB server; CV3_TEST_MONGODB names one where there is one.
    "CV3_TEST_MONGODB is not set",
    # Building packages takes minutes; `make test-packaging` does it once.
    "CV3_SLOW is not set",
    # A clone alone carries its own small data; the larger data stands beside the checkout.
    NO_SHARED,
)


def pytest_sessionfinish(session):
    """In CI a skip is a failure unless its reason is one of the few that are allowed."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["rows"] = [astuple(row) for row in table.ROWS]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    named = table.named_as_real(table.NAMED.read_text())
    for row in table.wrongly_skipped(named, table.ROWS):
        reporter.write_line(f"{row.name} has to be real here, and was not: {row.what}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", ())}
    wrong = {one for one in reasons if not any(allowed in one for allowed in ALLOWED_SKIPS)}
    if wrong:
        reporter.write_line(f"skips that are not allowed: {sorted(wrong)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Print which services were real, which stood in for them, and which were left out and why."""
    if table.ROWS:
        terminalreporter.section("services")
        for line in table.lines():
            terminalreporter.line(line)
    file = os.environ.get("CV3_TEST_TABLE")
    if file:
        with Path(file).open("a") as told:
            told.writelines(f"{line}\n" for line in table.lines())
