"""Instances by name, from the file beside the login."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cvf_app.console import __main__ as command
from cvf_app.console.failures import Misused, NoSuchThing
from cvf_app.console.named import FILE, address_of

KNOWN = {"local": "http://127.0.0.1:5000", "trial": "https://{stack}.trial.example.org"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_text(json.dumps(KNOWN))
    return tmp_path


class TestAddress:
    def test_a_name_and_a_stack_give_an_address(self, folder: Path) -> None:
        assert address_of("local", None, folder) == "http://127.0.0.1:5000"
        assert address_of("trial", "ward-7", folder) == "https://ward-7.trial.example.org"

    @pytest.mark.parametrize(
        ("name", "stack"),
        [("trial", None), ("local", "ward-7"), ("trial", "evil.example.org/"), ("trial", "-")],
    )
    def test_a_stack_is_named_where_it_is_needed_and_is_one_word(
        self, folder: Path, name: str, stack: str | None
    ) -> None:
        with pytest.raises(Misused):
            address_of(name, stack, folder)

    def test_an_unknown_name_says_what_there_is_and_where_to_write_it(
        self, folder: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(NoSuchThing) as refused:
            address_of("staging", None, folder)
        assert "local, trial" in refused.value.advice
        with pytest.raises(NoSuchThing) as refused:
            address_of("staging", None, tmp_path / "empty")
        assert FILE in refused.value.advice

    @pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
    def test_a_file_that_is_wrong_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / FILE).write_text(text)
        with pytest.raises(Misused, match=FILE):
            address_of("a", None, tmp_path)


class TestRoot:
    @pytest.mark.parametrize(
        "words",
        [["--stack", "one", "whoami"], ["--server", "http://a", "--env", "local", "whoami"]],
    )
    def test_what_does_not_go_together_is_refused(self, words: list[str]) -> None:
        assert isinstance(CliRunner().invoke(command.app, words).exception, Misused)
