"""Every operator we use of MongoDB means the same on every server there is."""

import os
import time

import pytest

from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.errors import Unavailable
from tests.contract.mongo_cases import CASES
from tests.support import services

GIVEN = os.environ.get("CV3_TEST_MONGODB")


class TestMongo:
    @pytest.mark.parametrize("name", CASES)
    async def test_operators_mean_what_mongodb_documents(self, mongo: Mongo, name: str) -> None:
        await CASES[name](mongo, mongo.collection("c"))

    async def test_a_silent_server_is_unavailable_within_five_seconds(self) -> None:
        nobody = Mongo.open(mongo_uri("127.0.0.1", services.free_port()), "x", 5)
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await nobody.collection("c").find_one({})
        assert time.monotonic() - began < 5
        nobody.close()

    async def test_acknowledged_writes_survive_a_kill(self) -> None:
        try:
            with services.secantusdb() as program:
                database = Mongo.open(program.url, "durable", 5)
                for n in range(200):
                    await database.collection("c").insert({"_id": n})
                program.kill()
                program.start()
                assert await database.collection("c").count({}) == 200
                database.close()
        except services.Missing as reason:
            pytest.skip(str(reason))


class TestUri:
    def test_credentials_and_addresses_are_quoted(self) -> None:
        uri = mongo_uri("::1", 27017, user="a:b", password="p@/", database="cv 3")
        assert uri == "mongodb://a%3Ab:p%40%2F@[::1]:27017/?authSource=cv%203"
