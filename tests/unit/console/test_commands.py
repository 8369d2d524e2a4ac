"""The command line from outside: help, exit codes, sentences."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cvf_app.console import __main__ as command
from cvf_app.console.failures import NOT_FOUND, NoSuchThing

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CV3_DATA", str(tmp_path / "instance"))
    monkeypatch.delenv("CV3_SERVER", raising=False)


class TestHelp:
    def test_the_help_tells_the_exit_codes(self) -> None:
        told = RUNNER.invoke(command.app, ["--help"])
        assert told.exit_code == 0
        assert "Exit codes" in told.output

    @pytest.mark.parametrize(
        "words",
        ["login", "whoami", "users create", "users role", "users revoke-login", "users delete",
         "access-requests list", "access-requests approve", "access-requests deny",
         "sources create", "sources report", "upload", "ingest",
         "remap", "query", "history", "pipelines create", "attributes set", "attributes check",
         "groups create", "jobs follow", "jobs log", "jobs delete", "jobs resources", "sample",
         "files get", "mail test", "mail list", "mail retry", "inspect", "call"],
    )  # fmt: skip
    def test_every_command_has_help(self, words: str) -> None:
        assert RUNNER.invoke(command.app, [*words.split(), "--help"]).exit_code == 0


class TestExitCodes:
    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["sources", "nothing"], 2),
            (["whoami"], 2),
            (["--server", "http://127.0.0.1:1", "whoami"], 3),
            (["query", "--age", "old"], 2),
        ],
    )
    def test_each_failure_has_its_code(
        self, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", ["cvf", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == code

    def test_the_sentence_and_the_advice_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        fault = NoSuchThing("There is no source [x].", path="$.a", advice="Look again.")
        assert command.told(fault) == NOT_FOUND
        said = capsys.readouterr().err
        assert "There is no source [x]. ($.a)" in said
        assert "Look again." in said


class TestQuery:
    def test_the_query_can_be_read_without_sending_it(self) -> None:
        told = RUNNER.invoke(command.app, ["query", "--hpo", "HP:0001250", "--show-query"])
        assert '"HP:0001250"' in told.output
