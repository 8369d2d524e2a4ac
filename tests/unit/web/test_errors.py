"""What an error of ours becomes, and who hears of refused credentials."""

from quart import Quart

from cvf_app.errors import CredentialsRefused, Unavailable
from cvf_app.web.errors import install


def failing(fault):
    app = Quart(__name__)
    install(app)

    @app.get("/")
    async def fail():
        raise fault

    return app


class TestRefusedCredentials:
    async def test_they_are_heard_of_by_who_tells_administrators(self):
        app = failing(CredentialsRefused("Vault does not let us log in."))
        heard = []
        app.extensions["cv3_credentials_refused"] = heard.append
        answer = await app.test_client().get("/")
        assert answer.status_code == 503
        assert [fault.sentence for fault in heard] == ["Vault does not let us log in."]

    async def test_a_service_that_is_only_away_is_not(self):
        app = failing(Unavailable("Vault does not answer."))
        heard = []
        app.extensions["cv3_credentials_refused"] = heard.append
        assert (await app.test_client().get("/")).status_code == 503
        assert heard == []

    async def test_before_anybody_listens_it_is_an_answer_all_the_same(self):
        app = failing(CredentialsRefused("Vault does not let us log in."))
        assert (await app.test_client().get("/")).status_code == 503
