"""Names in Vault, and the login that an instance must have, without a Vault."""

import pytest

from cvf_app.backends.vault import VaultKeyStore
from cvf_app.backends.vault_names import Names
from cvf_app.backends.vault_session import AppRole
from cvf_app.config import Vault
from cvf_app.errors import Invalid
from scripts.vault.setup import Failed, leads

GOOD = ["", "a", "a-b", "a/b", "a.b", "a/b-c", "a-b/c", "key", "a-key", "user-a", "A_1/x.y-z"]
WRONG = ["a--b", "a//b", "..", "a/../b", "a b", "-a", "a-", "ä", "a/.b", "*", "a+", "a\n"]


class TestNames:
    @pytest.mark.parametrize("prefix", WRONG)
    def test_prefix_that_could_be_taken_for_another_is_refused(self, prefix):
        with pytest.raises(Invalid) as caught:
            Names.of(prefix)
        assert caught.value.path == "$.Vault.KV2Prefix"
        with pytest.raises(Failed):
            leads(prefix)

    def test_no_rule_of_one_prefix_covers_a_key_of_another(self):
        for one in GOOD[1:]:
            for other in GOOD[1:]:
                # A rule of a policy is the beginning of the names that it covers.
                rules = [f"{leads(one)[1]}{kind}-" for kind in ("key", "index", "user")]
                names = Names.of(other)
                ours = [names.key("key-a"), names.index("user-a"), names.person("a--1"[:1])]
                covered = any(name.startswith(tuple(rules)) for name in ours)
                assert covered == (one == other), (one, other)

    @pytest.mark.parametrize("prefix", GOOD)
    def test_script_that_writes_the_policy_spells_them_as_we_do(self, prefix):
        secrets, keys = leads(prefix)
        names = Names.of(f"/{prefix}/")
        assert names.secret("a/b") == f"{secrets}a/b"
        assert names.key("people") == f"{keys}key-people"

    @pytest.mark.parametrize("path", ["../other/x", "a/../../x", "", "a//b", "a/./b", "a\nb", "/a"])
    def test_no_path_of_a_secret_leaves_the_prefix(self, path):
        with pytest.raises(ValueError, match="path"):
            Names.of("a").secret(path)

    @pytest.mark.parametrize("name", ["", "../x", "a/b", "a--b", "a%2fb", "ä", "a b"])
    def test_no_name_of_a_key_leaves_the_prefix(self, name):
        for spell in (Names.of("a").key, Names.of("a").index, Names.of("a").person):
            with pytest.raises(ValueError, match="name"):
                spell(name)


class TestOpen:
    @pytest.mark.parametrize(("role", "secret"), [("", "x"), ("x", "")])
    def test_missing_login_is_said(self, role, secret):
        with pytest.raises(Invalid, match="VAULT_ROLE_ID"):
            VaultKeyStore.open(Vault(host="http://127.0.0.1:1"), AppRole(role, secret))

    @pytest.mark.parametrize("host", ["", "vault.example.org:8200", "file:///etc/passwd"])
    def test_what_is_no_address_is_said(self, host):
        with pytest.raises(Invalid, match="address") as caught:
            VaultKeyStore.open(Vault(host=host), AppRole("a", "b"))
        assert caught.value.path == "$.Vault.Host"

    def test_login_shows_nothing_when_it_is_printed(self):
        assert "hidden" not in repr(AppRole("hidden", "hidden"))
