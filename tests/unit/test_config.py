import json
from pathlib import Path

import pytest

from cvf_app.config import Mode, as_list, load, surroundings
from cvf_app.errors import Invalid

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "instance_config.json.example"


def sized(name, **limits):
    return {"Sizes": {"small": {}, "large": {}, name: limits}}


@pytest.fixture
def edited(tmp_path):
    def edit(**blocks):
        path = tmp_path / "instance_config.json"
        path.write_text(json.dumps(json.loads(EXAMPLE.read_text()) | blocks))
        return path

    return edit


class TestLoad:
    def test_the_example_loads(self):
        assert load(EXAMPLE).mode is Mode.FULL

    def test_every_key_of_the_example_is_documented(self):
        text = (ROOT / "docs" / "configuration.md").read_text()

        def names(block, prefix=""):
            for name, value in block.items():
                yield prefix + name
                if isinstance(value, dict):
                    yield from names(value, f"{prefix}{name}.")

        missing = [
            name for name in names(json.loads(EXAMPLE.read_text())) if f"`{name}`" not in text
        ]
        assert missing == []

    def test_the_later_published_generation_loads(self, edited):
        blocks = json.loads(EXAMPLE.read_text())
        del blocks["OpenAPI"], blocks["Neo4j"]
        path = edited()
        blocks["CORS"]["AllowOrigin"] = "https://a.example, https://b.example"
        blocks["MongoDB"]["Port"] = 27017
        path.write_text(json.dumps(blocks))
        config = load(path)
        assert as_list(config.cors.allow_origin) == ("https://a.example", "https://b.example")
        assert config.mongo_db.port == 27017

    @pytest.mark.parametrize(
        ("block", "path"),
        [
            ({"MongoDB": {"Port": []}}, "$.MongoDB.Port"),
            ({"MongoDB": {"Port": "many"}}, "$.MongoDB.Port"),
            ({"Email": {"SMTP": {"Host": "mail"}}}, "$.Email.From.Address"),
            ({"Email": {"Sender": "nobody"}}, "$.Email.Sender"),
            ({"Email": {"From": {"Name": "a\nb"}}}, "$.Email.From.Name"),
            ({"Logging": {"Loki": {"Enabled": True}}}, "$.Logging.Loki.Endpoint"),
            (
                {"Logging": {"Loki": {"Enabled": True, "Endpoint": "http://u:p@loki:3100"}}},
                "$.Logging.Loki.Endpoint",
            ),
            ({"Logging": {"Loki": {"Tags": {"1st": "x"}}}}, "$.Logging.Loki.Tags.1st"),
            (
                {"Logging": {"SplunkHEC": {"Enabled": True, "HecEndpoint": "splunk:8088"}}},
                "$.Logging.SplunkHEC.HecEndpoint",
            ),
            (
                {"Logging": {"SplunkHEC": {"Enabled": True, "HecEndpoint": "https://s:8088"}}},
                "$.Logging.SplunkHEC.Token",
            ),
            ({"Logging": {"BackupCount": -1}}, "$.Logging.MaxBytes"),
            ({"Redis": {"Port": 70000}}, "$.Redis.Port"),
            ({"Data": {}}, "$.Data"),
            ({"Nonsense": {}}, "$"),
            ({"Identity": {"Provider": "oidc"}}, "$.Identity.Issuer"),
            ({"Secrets": {"Provider": "file"}}, "$.Secrets.Path"),
            ({"CORS": {"AllowOrigin": "*"}}, "$.CORS.AllowOrigin"),
            ({"Logging": {"Level": "LOUD"}}, "$.Logging.Level"),
            ({"Jobs": {"Cores": -1}}, "$.Jobs.Cores"),
            ({"Jobs": {"Sizes": {"small": {}}}}, "$.Jobs.Sizes"),
            ({"Jobs": {"Sizes": {"large": {}}}}, "$.Jobs.Sizes"),
            ({"Jobs": sized("Not so")}, "$.Jobs.Sizes"),
            ({"Jobs": {"Cores": 2} | sized("huge", Cores=3)}, "$.Jobs.Sizes.huge.Cores"),
            (
                {"Jobs": {"MemoryMiB": 900} | sized("huge", MemoryMiB=901)},
                "$.Jobs.Sizes.huge.MemoryMiB",
            ),
            ({"Jobs": sized("tiny", MemoryMiB=1)}, "$.Jobs.Sizes.tiny.MemoryMiB"),
            ({"Jobs": sized("brief", Minutes=0)}, "$.Jobs.Sizes.brief.Minutes"),
            ({"Jobs": {"Types": {"Ingest": "vast"}}}, "$.Jobs.Types.Ingest"),
            ({"Jobs": {"StalledAfterSeconds": 1}}, "$.Jobs.StalledAfterSeconds"),
            ({"Jobs": {"CancelGraceSeconds": -1}}, "$.Jobs.CancelGraceSeconds"),
            ({"Jobs": {"Sizes": {"small": {"Core": 1}, "large": {}}}}, "$.Jobs.Sizes[...]"),
        ],
    )
    def test_a_fault_is_told_with_its_path(self, edited, block, path):
        with pytest.raises(Invalid) as fault:
            load(edited(**block))
        assert fault.value.path == path

    def test_jobs_may_have_sizes_of_any_name(self, edited):
        jobs = {"Cores": 4, "Types": {"Remap": "huge"}} | sized("huge", Cores=4)
        assert load(edited(Jobs=jobs)).jobs.sizes["huge"].cores == 4

    def test_a_missing_file_says_what_to_do(self, tmp_path):
        with pytest.raises(Invalid, match=r"instance_config\.json\.example"):
            load(tmp_path / "none.json")

    def test_the_digest_changes_with_a_value(self, edited):
        assert load(edited()).digest != load(edited(Mode="local")).digest


class TestSurroundings:
    def test_the_environment_gives_the_place_and_the_duties(self):
        around = surroundings({"CV3_APP_PATH": "/srv/cv3", "CV3_DUTIES": "query"})
        assert around.config_path == Path("/srv/cv3/instance_config.json")
        assert around.duties == "query"

    def test_what_opens_vault_is_not_shown_when_it_is_printed(self):
        around = surroundings({"VAULT_ROLE_ID": "hidden", "VAULT_SECRET_ID": "hidden"})
        assert (around.vault_role_id, around.vault_secret_id) == ("hidden", "hidden")
        assert "hidden" not in repr(around) + str(around)
