"""The answers do not depend on how an instance is divided into processes."""

import pytest

from tests.integration.test_expected_data import by_packets, differences, expectation
from tests.support import nodes
from tests.support.filling import Filling
from tests.support.shared import NO_SHARED, SHARED

FILE = "phenopackets/expected.json"


@pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
class TestShapes:
    @pytest.mark.parametrize("shape", nodes.SHAPES)
    async def test_the_queries_of_the_phenopackets_are_answered_alike(
        self, tmp_path, mongo_url, redis_url, shape
    ):
        async with nodes.kept(tmp_path, mongo_url, redis_url, nodes.SHAPES[shape]) as node:
            found = await by_packets(await Filling(node).begin())
        assert len(found["queries"]) == 25
        assert differences(FILE, expectation(FILE), found) == []
