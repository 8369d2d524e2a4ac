"""A broker and a database for one file of tests, which may stop and start them; the slow first."""

from collections.abc import Iterator

import pytest

from cvf_app.backends import key_records
from tests.support import services

# Begun first, so that no process is left with one of them at the end.
SLOWEST = (
    "test_full_mode_operation",
    "test_attributes",
    "test_vault",
    "test_ingest",
    "test_services",
    "test_job_limits",
    "test_keycloak",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest before the others."""
    last = len(SLOWEST)
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, last))


@pytest.fixture(autouse=True, scope="module")
def _short_keys() -> Iterator[None]:
    """People get shorter keys here, or a core works a second for each; contract tests have 4096."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_records, "USER_KEY_BITS", 1024)
        yield


@pytest.fixture(scope="module")
def redis_program() -> Iterator[services.Program]:
    try:
        with services.valkey() as program:
            yield program
    except services.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def mongo_uri() -> Iterator[str]:
    try:
        with services.mongodb() as uri:
            yield uri
    except services.Missing as reason:
        pytest.skip(str(reason))
