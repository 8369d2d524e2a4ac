"""The script that makes our realm in Keycloak: what it makes, mends, keeps to itself and may do."""

import pytest
from keycloak import KeycloakAdmin, KeycloakOpenID, KeycloakOpenIDConnection
from keycloak.exceptions import KeycloakError

from cvf_app.backends.keystore import FileKeyStore
from cvf_app.users.identity.oidc import CLIENT_SECRET
from tests.support.providers import REDIRECT
from tests.support.realm import CLIENT


@pytest.fixture
async def keys(realm):
    store = FileKeyStore.open(realm.folder / "keys")
    yield store
    await store.close()


class TestSetup:
    def test_second_run_finds_nothing_to_do(self, realm):
        dry = realm.set_up("--dry-run")
        assert (dry.returncode, dry.stdout) == (0, "As it should be.\n")
        again = realm.set_up()
        assert again.returncode == 0, again.stderr
        assert "done" not in again.stdout

    async def test_secret_goes_to_the_key_store_and_nowhere_else(self, realm, keys):
        kept = (await keys.read_secret(CLIENT_SECRET)).data["client_secret"]
        assert kept == realm.client_secret()
        done = realm.set_up("--rotate-secret")
        fresh = (await keys.read_secret(CLIENT_SECRET)).data["client_secret"]
        assert fresh == realm.client_secret() != kept
        for secret in (kept, fresh, realm.password):
            assert secret not in done.stdout + done.stderr

    def test_what_somebody_changed_is_told_and_put_right(self, realm):
        admin = realm.admin()
        client = admin.get_client_id(CLIENT)
        present = admin.get_client(client)
        present["redirectUris"].append("https://evil.example.org/*")
        present["directAccessGrantsEnabled"] = True
        present["attributes"]["pkce.code.challenge.method"] = ""
        admin.update_client(client, present)
        owner = admin.get_client_id("realm-management")
        user = admin.get_client_service_account_user(client)["id"]
        admin.assign_client_role(user, owner, [admin.get_client_role(owner, "realm-admin")])
        scopes = {each["name"]: each["id"] for each in admin.get_client_scopes()}
        admin.add_client_default_client_scope(client, scopes["phone"], {})
        mapper = next(m for m in admin.get_mappers_from_client(client) if "ourselves" in m["name"])
        admin.remove_client_mapper(client, mapper["id"])

        dry = realm.set_up("--dry-run")
        assert dry.returncode == 3
        assert "https://evil.example.org/*" in admin.get_client(client)["redirectUris"]
        for word in (
            "redirectUris",
            "directAccess",
            "attributes",
            "realm-admin",
            "phone",
            "audience",
        ):
            assert word in dry.stdout, word
        assert realm.set_up().returncode == 0
        assert realm.set_up("--dry-run").returncode == 0
        mended = admin.get_client(client)
        assert sorted(mended["redirectUris"]) == sorted([REDIRECT, "https://discover.example.org/"])
        assert mended["attributes"]["pkce.code.challenge.method"] == "S256"

    def test_new_realm_is_only_told_of_in_a_dry_run(self, realm, tmp_path):
        text = realm.file.read_text().replace(realm.name, f"{realm.name}-new")
        (tmp_path / "instance_config.json").write_text(text)
        dry = realm.set_up("--dry-run", "--config", str(tmp_path / "instance_config.json"))
        assert dry.returncode == 3
        assert f"{realm.name}-new" not in {each["realm"] for each in realm.admin().get_realms()}

    @pytest.mark.parametrize(
        ("arguments", "password", "code", "sentence"),
        [
            ((), "wrong", 1, "name and password"),
            (("--config", "/nowhere"), "", 2, "no readable configuration"),
            (("--target", "nobody"), "", 1, "no client nobody"),
        ],
    )
    def test_refusals_are_sentences(self, realm, arguments, password, code, sentence):
        done = realm.set_up(*arguments, password=password)
        assert done.returncode == code
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr

    async def test_service_account_can_do_no_more_than_look_after_accounts(self, realm, keys):
        secret = (await keys.read_secret(CLIENT_SECRET)).data["client_secret"]
        where = {
            "server_url": f"{realm.address}/",
            "realm_name": realm.name,
            "client_id": CLIENT,
            "client_secret_key": secret,
        }
        token = KeycloakOpenID(**where).token(grant_type="client_credentials", scope="roles")
        us = KeycloakAdmin(connection=KeycloakOpenIDConnection(**where, token=token))
        realm.person("looked-after")
        assert us.get_users()
        admin = realm.admin()
        victim = admin.get_user_id("service-account-cafe-variome") or us.get_users()[0]["id"]
        owner = admin.get_client_id("realm-management")
        might = admin.get_client_role(owner, "realm-admin")
        for more in (
            us.get_clients,
            us.get_idps,
            us.get_events,
            us.get_components,
            lambda: us.create_client({"clientId": "backdoor"}),
            lambda: us.update_realm(realm.name, {"registrationAllowed": True}),
            lambda: us.create_realm_role({"name": "king"}),
            lambda: us.assign_client_role(victim, owner, [might]),
            lambda: us.get_realm("master"),
        ):
            with pytest.raises(KeycloakError) as refused:
                more()
            assert refused.value.response_code in {403, 404}
        assert admin.get_realm(realm.name)["registrationAllowed"] is False
