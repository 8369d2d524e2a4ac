"""Every MongoDB server there is: the embedded one, and the one that CV3_TEST_MONGODB names."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from cvf_app.backends.mongo import Mongo
from cvf_app.ids import new_id
from tests.support import services

GIVEN = os.environ.get("CV3_TEST_MONGODB")


@pytest.fixture(scope="module", params=["secantusdb", "by-address"])
def uri(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "by-address":
        if GIVEN is None:
            pytest.skip("CV3_TEST_MONGODB is not set: no other MongoDB server to compare with")
        yield GIVEN
        return
    try:
        with services.secantusdb() as program:
            yield program.url
    except services.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture
async def mongo(uri: str) -> AsyncIterator[Mongo]:
    database = Mongo.open(uri, f"cv3_test_{new_id()[:8]}", 30)
    yield database
    await database.drop()
    database.close()
