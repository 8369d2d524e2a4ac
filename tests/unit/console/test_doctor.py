"""What the doctor finds without a service to ask."""

import json

import pytest
from typer.testing import CliRunner

from cvf_app.backends.seen import Seen
from cvf_app.config import load
from cvf_app.console.__main__ import app
from cvf_app.console.examination import _folders, _permissions, _ports, _room, _service
from cvf_app.errors import Unavailable
from cvf_app.local.instance import Instance


@pytest.fixture
def instance(tmp_path):
    """A configuration of full mode whose folders are right."""
    for name in ("data", "keys"):
        (tmp_path / name).mkdir(mode=0o700)
    file = tmp_path / "instance_config.json"
    blocks = {
        "Data": {"UploadPath": str(tmp_path / "data")},
        "Identity": {"Provider": "oidc", "Issuer": "http://127.0.0.1:1", "Client": "test"},
        "Secrets": {"Provider": "file", "Path": str(tmp_path / "keys")},
    }
    file.write_text(json.dumps(blocks))
    file.chmod(0o600)
    return Instance(folder=tmp_path, config=file)


def states(findings):
    return {each.check: each.state for each in findings}


class TestDoctor:
    def test_a_wrong_configuration_is_the_one_finding(self, tmp_path):
        file = tmp_path / "instance_config.json"
        file.write_text('{"Nothing": 1}')
        told = CliRunner().invoke(app, ["doctor", "--config", str(file), "--json"])
        assert told.exit_code == 1
        (finding,) = json.loads(told.stdout)
        assert finding["check"] == "configuration"
        assert finding["state"] == "fault"
        assert finding["advice"]

    def test_permissions_of_secrets_are_looked_at(self, instance):
        config = load(instance.config, {})
        assert set(states(_permissions(instance.config, config)).values()) == {"ok"}
        instance.config.chmod(0o644)
        (instance.folder / "keys").chmod(0o750)
        found = states(_permissions(instance.config, config))
        assert list(found.values()) == ["fault", "warning"]

    def test_a_missing_folder_is_named_with_the_command_that_makes_it(self, instance):
        config = load(instance.config, {})
        assert set(states(_folders(instance.config, config)).values()) == {"ok"}
        for name in ("data", "keys"):
            (instance.folder / name).rmdir()
        found = {each.check: each for each in _folders(instance.config, config)}
        assert found["key store"].state == "fault"
        assert f"mkdir -m 700 -p {instance.folder / 'keys'}" in found["key store"].advice
        # The instance makes it, unlike keys.
        assert "can be made" in found["data folder"].found

    def test_room_on_the_disk_is_judged(self, tmp_path):
        assert _room("x", tmp_path).found.startswith(str(tmp_path))

    def test_an_address_that_is_none_is_a_fault(self, instance):
        (finding,) = _ports(instance, {"CV3_BIND": "5000"})
        assert finding.state == "fault"


class TestService:
    async def test_one_that_is_down_is_told_with_what_to_do(self):
        async def ask():
            raise Unavailable("The database does not answer.")

        (finding,) = await _service("database", ask, "start it")
        assert (finding.state, finding.found) == ("fault", "The database does not answer.")
        assert finding.advice == "start it"

    @pytest.mark.parametrize(
        ("told", "state"),
        [
            (Seen(name="Redis", version="7.2.4"), "ok"),
            (Seen(name="Redis", version="6.0.16"), "fault"),
            (Seen(name="MongoDB protocol", version="5.0.1"), "fault"),
            (Seen(name="Vault", version="1.20.0+ent"), "ok"),
            (Seen(name="Vault", version="1.14.0", mode="production"), "fault"),
            (Seen(name="Keycloak", mode="development", warning="not safe"), "warning"),
            (Seen(name="OpenID provider"), "ok"),
        ],
    )
    async def test_versions_and_modes_are_judged(self, told, state):
        async def ask():
            return told

        (finding,) = await _service("x", ask, "")
        assert finding.state == state
