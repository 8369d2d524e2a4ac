"""A broker and a database for one file of tests, which may stop and start them."""

from collections.abc import Iterator

import pytest

from tests.support import services


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
