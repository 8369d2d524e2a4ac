import pytest
from quart import Quart

from cvf_app.config import Cors
from cvf_app.errors import Unauthenticated
from cvf_app.principal import Principal, Role, UserId
from cvf_app.web import access, cors, errors
from cvf_app.web.io import DONE, reply


@pytest.fixture
def app():
    app = Quart("test")
    errors.install(app)
    cors.install(app, Cors(allow_origin="https://page.example"))

    async def authenticate(token):
        if token not in {"admin", "person"}:
            raise Unauthenticated("The access token is not valid.")
        role = Role.DATA_ADMIN if token == "admin" else Role.USER
        return Principal(user_id=UserId(token), username=token, role=role)

    app.extensions["cv3_authenticate"] = authenticate

    @app.get("/data")
    @access.allow(*access.DATA)
    async def data():
        assert access.principal().username == "admin"
        return reply(DONE)

    @app.get("/broken")
    @access.public
    async def broken():
        raise ZeroDivisionError("the inside of the house")

    return app


class TestAllow:
    @pytest.mark.parametrize(
        ("header", "status"),
        [
            ({}, 401),
            ({"Authorization": "Basic YTpi"}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Bearer person"}, 403),
            ({"Authorization": "Bearer admin"}, 200),
        ],
    )
    async def test_who_is_not_known_and_who_may_not_are_told_apart(self, app, header, status):
        response = await app.test_client().get("/data", headers=header)
        assert response.status_code == status

    def test_a_silent_handler_stops_the_start(self, app):
        app.add_url_rule("/open", "open_by_accident", lambda: "")
        with pytest.raises(RuntimeError, match="open_by_accident"):
            access.check_access(app)


class TestMaintenance:
    @pytest.fixture
    def closed(self, app):
        """An app that is maintained."""

        async def sentence():
            return "Back at noon."

        access.refuse_changes(app)
        app.extensions["cv3_closed"] = sentence

        @app.route("/thing", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        @access.public
        async def thing():
            return reply(DONE)

        @app.post("/login")
        @access.in_maintenance
        @access.public
        async def login():
            return reply(DONE)

        return app.test_client()

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    async def test_whatever_changes_something_is_refused_with_the_sentence(self, closed, method):
        response = await closed.open("/thing", method=method)
        assert (response.status_code, (await response.get_json())["error"]) == (
            503,
            "Back at noon.",
        )

    async def test_reading_logging_in_and_wrong_addresses_are_answered_as_ever(self, closed):
        for method, path, status in (
            ("GET", "/thing", 200),
            ("HEAD", "/thing", 200),
            ("POST", "/login", 200),
            ("POST", "/nowhere", 404),
            ("POST", "/data", 405),
        ):
            assert (await closed.open(path, method=method)).status_code == status


class TestErrors:
    async def test_a_surprise_tells_nothing_of_the_inside(self, app):
        response = await app.test_client().get("/broken")
        body = await response.get_json()
        assert response.status_code == 500
        assert body.keys() == {"error", "code", "traceId"}
        assert "inside" not in str(body)

    async def test_an_unknown_address_has_the_same_shape(self, app):
        response = await app.test_client().get("/nowhere")
        assert (await response.get_json()).keys() == {"error", "code", "traceId"}
        assert response.status_code == 404


class TestCors:
    async def test_only_a_listed_origin_is_answered(self, app):
        for origin, allowed in (("https://page.example", True), ("https://other.example", False)):
            response = await app.test_client().options(
                "/data", headers={"Origin": origin, "Access-Control-Request-Method": "GET"}
            )
            assert response.status_code == 204
            assert ("Access-Control-Allow-Origin" in response.headers) is allowed
