"""The kept login."""

import stat
import time
from pathlib import Path

import pytest

from cvf_app.console.failures import Failure, NotLoggedIn
from cvf_app.console.session import Session, Sessions, kept

SERVER = "http://127.0.0.1:1"


class TestSessions:
    def test_a_session_comes_back_and_only_its_owner_may_read_it(self, tmp_path: Path) -> None:
        sessions = Sessions(tmp_path / "cafe-variome")
        session = Session(server=SERVER, refresh_token="r")
        sessions.write(session)
        assert sessions.read() == session
        mode = (tmp_path / "cafe-variome" / "session.json").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600

    def test_a_fresh_token_is_used_as_it_is(self, tmp_path: Path) -> None:
        sessions = Sessions(tmp_path)
        later = int(time.time()) + 600
        sessions.write(
            Session(server=SERVER, refresh_token="r", access_token="a", expires_at=later)
        )
        assert sessions.token(SERVER, anew=False) == "a"

    def test_without_a_session_one_is_told_to_log_in(self, tmp_path: Path) -> None:
        with pytest.raises(NotLoggedIn) as told:
            Sessions(tmp_path).token(SERVER, anew=False)
        assert told.value.advice == "Log in first: cvf login"

    def test_a_token_never_goes_to_another_server(self, tmp_path: Path) -> None:
        sessions = Sessions(tmp_path)
        sessions.write(Session(server=SERVER, refresh_token="r", access_token="a"))
        with pytest.raises(NotLoggedIn):
            sessions.token("http://elsewhere.example", anew=False)

    def test_a_broken_file_is_no_session(self, tmp_path: Path) -> None:
        (tmp_path / "session.json").write_text("{")
        assert Sessions(tmp_path).read() is None

    def test_forgetting_says_whether_there_was_one(self, tmp_path: Path) -> None:
        sessions = Sessions(tmp_path)
        sessions.write(Session(server=SERVER, refresh_token="r"))
        assert [sessions.forget(), sessions.forget()] == [True, False]


class TestKept:
    def test_the_old_refresh_token_stays_where_no_new_one_is_given(self) -> None:
        assert kept(SERVER, {"access_token": "a", "expires_in": 60}, "r").refresh_token == "r"

    def test_an_answer_without_a_token_is_no_login(self) -> None:
        with pytest.raises(Failure):
            kept(SERVER, {"error": "no"})
