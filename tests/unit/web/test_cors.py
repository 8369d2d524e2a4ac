"""Which pages may open a websocket here."""

import pytest
from quart import Quart

from cvf_app.config import Cors
from cvf_app.web.cors import install, may_open


class TestMayOpen:
    @pytest.mark.parametrize(
        ("origin", "may"),
        [
            (None, True),
            ("https://portal.example", True),
            ("https://node.example:8443", True),
            ("http://portal.example", False),
            ("https://portal.example.evil", False),
            ("https://node.example", False),
            ("https://node.example:8443.evil", False),
            ("null", False),
            ("", False),
            ("https://[", False),
        ],
    )
    async def test_programs_our_own_pages_and_configured_origins_may(self, origin, may):
        app = Quart("test")
        install(app, Cors(allow_origin="https://portal.example"))
        async with app.app_context():
            assert may_open(origin, "node.example:8443") is may
