"""Where a login may return to."""

import pytest

from cvf_app.errors import Invalid
from cvf_app.users.identity.redirects import check_redirect

LISTED = frozenset({"https://discover.example.org/", "https://discover.example.org/back?a=1"})


class TestCheckRedirect:
    @pytest.mark.parametrize(
        "address",
        [
            *LISTED,
            "http://127.0.0.1/callback",
            "http://127.0.0.1:8765/callback",
            "http://[::1]:1/callback",
        ],
    )
    def test_listed_addresses_and_the_command_line_pass(self, address):
        check_redirect(address, LISTED)

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "https://discover.example.org",
            "https://discover.example.org/x",
            "HTTPS://discover.example.org/",
            "https://discover.example.org/back",
            "http://discover.example.org/",
            "https://discover.example.org.evil.example/",
            "http://localhost/callback",
            "https://127.0.0.1/callback",
            "http://127.0.0.1/other",
            "http://127.0.0.1:8765/callback?x=1",
            "http://127.0.0.1:8765/callback\n",
            "http://127.0.0.1@evil.example/callback",
            "http://127.0.0.1:1@evil.example/callback",
            "http://127.0.0.2/callback",
        ],
    )
    def test_anything_else_is_invalid(self, address):
        with pytest.raises(Invalid) as refused:
            check_redirect(address, LISTED)
        assert refused.value.path == "$.redirect_uri"

    def test_without_a_list_it_is_left_to_the_provider(self):
        check_redirect("https://anywhere.example.org/", frozenset())
