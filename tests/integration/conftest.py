"""A broker and a database for one file of tests, which may stop and start them."""

from collections.abc import Iterator

import pytest

from cvf_app.backends import key_records
from tests.support import services


@pytest.fixture(autouse=True, scope="module")
def _short_keys() -> Iterator[None]:
    """People get shorter keys here, or a core works a second for each; contract tests have 4096."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_records, "USER_KEY_BITS", 2048)
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
