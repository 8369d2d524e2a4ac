"""The guarded client refuses private targets before it opens a connection."""

import pytest

from cvf_app.backends.http import Http, is_blocked
from cvf_app.errors import Invalid, PeerFailed


@pytest.fixture
async def http():
    client = Http.open(frozenset({"http://127.0.0.1:1"}), least_seconds=0)
    yield client
    await client.close()


class TestGuard:
    @pytest.mark.parametrize(
        "url",
        [
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://10.1.2.3/",
            "https://169.254.169.254/latest/meta-data",
            "https://2130706433/",
            "https://127.1/",
            "https://user:pw@93.184.215.14/",
            "http://93.184.215.14/",
            "https://93.184.215.14:22/",
            "http://127.0.0.1:2/",
            "https://127.0.0.1:1/",
            "http://user@127.0.0.1:1/",
        ],
    )
    async def test_target_named_by_people_must_be_public(self, http, url):
        with pytest.raises(PeerFailed) as caught:
            await http.send("GET", url)
        assert caught.value.sentence == "The address could not be reached."

    @pytest.mark.parametrize("url", ["ftp://example.org/", "nonsense", "https://", "http://a:b/"])
    async def test_what_is_no_web_address_is_invalid(self, http, url):
        with pytest.raises(Invalid):
            await http.send("GET", url)


class TestIsBlocked:
    @pytest.mark.parametrize(
        "address",
        [
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "fe80::1%eth0",
            "fd00::1",
            "::",
            "x",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "::ffff:8.8.8.8",
        ],
    )
    def test_private_and_odd_addresses_are_blocked(self, address):
        assert is_blocked(address)

    @pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111"])
    def test_public_addresses_pass(self, address):
        assert not is_blocked(address)
