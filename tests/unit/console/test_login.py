"""Pieces of the login that need no server."""

import pytest

from cvf_app.console.failures import Failure
from cvf_app.console.login import challenge, code_of
from cvf_app.console.walk import Form

BACK = "http://127.0.0.1:8765/callback"


class TestCodeFlow:
    def test_the_challenge_is_that_of_the_standard(self) -> None:
        # RFC 7636, appendix B
        verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

    def test_the_code_is_taken_with_our_state(self) -> None:
        assert code_of(f"{BACK}?code=c&state=s", "s") == "c"

    @pytest.mark.parametrize(
        "query", ["code=c&state=x", "code=c", "error=access_denied", "state=s"]
    )
    def test_anything_else_is_refused(self, query: str) -> None:
        with pytest.raises(Failure):
            code_of(f"{BACK}?{query}", "s")


class TestForm:
    def test_hidden_fields_and_buttons_are_read(self) -> None:
        page = Form(
            "<form action='/login' method='post'><input type='hidden' name='csrf_token' "
            "value='a&amp;b'><input name='login'><button name='answer' value='accept'></form>"
            "<form><input name='other'></form>"
        )
        assert page.action == "/login"
        assert page.fields == {"csrf_token": "a&b", "login": ""}
        assert page.buttons == {"answer": {"accept"}}
