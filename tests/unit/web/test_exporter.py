"""Who gets the metrics: by key, by where a request comes from, whatever it sends."""

import msgspec
import pytest
from quart import Quart

from cvf_app.assembly import create_app
from cvf_app.config import Metrics, Prometheus
from cvf_app.duties import parse
from cvf_app.web import errors, exporter

HERE = ("127.0.0.1", 1)
ELSEWHERE = ("192.0.2.7", 1)


def served(key):
    app = Quart("test")
    errors.install(app)
    exporter.measure(app)
    app.register_blueprint(exporter.exporter(Prometheus(enabled=True, path="/inner/m", key=key)))
    return app.test_client()


async def scrape(key, client=ELSEWHERE, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served(key).get("/inner/m", headers=sent, scope_base={"client": client})


class TestKey:
    @pytest.mark.parametrize("sent", ["Bearer k3y", "bearer  k3y ", "k3y"])
    async def test_the_key_opens(self, sent):
        answer = await scrape("k3y", Authorization=sent)
        assert answer.status_code == 200
        assert answer.content_type.startswith("text/plain; version=0.0.4")
        assert b"cv3_requests" in await answer.data

    @pytest.mark.parametrize(
        "sent", ["Bearer wrong", "Bearer", "Bearer k3y2", "Basic k3y", "", "Bearer \xe9\xff", "k"]
    )
    @pytest.mark.parametrize("client", [HERE, ELSEWHERE])
    async def test_anything_else_does_not(self, sent, client):
        answer = await scrape("k3y", client, Authorization=sent)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert b"cv3_requests" not in await answer.data

    async def test_no_header_does_not(self):
        assert (await scrape("k3y", HERE)).status_code == 401

    async def test_a_key_that_is_no_ascii_opens_and_fails_as_any_other(self):
        assert (await scrape("schlüssel", Authorization="Bearer schlüssel")).status_code == 200
        assert (await scrape("schlüssel", Authorization="Bearer schl")).status_code == 401


class TestWithoutKey:
    @pytest.mark.parametrize("client", [HERE, ("::1", 1), ("127.9.9.9", 1)])
    async def test_it_is_open_on_its_own_machine(self, client):
        assert (await scrape("", client)).status_code == 200

    @pytest.mark.parametrize("client", [ELSEWHERE, ("10.0.0.1", 1), ("2001:db8::1", 1), ("", 0)])
    async def test_it_is_closed_to_others(self, client):
        answer = await scrape("", client, Authorization="Bearer anything")
        assert answer.status_code == 403
        assert b"cv3_requests" not in await answer.data

    @pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "X_Real_IP", "Via"])
    async def test_it_is_closed_to_what_a_proxy_passes_on(self, header):
        assert (await scrape("", HERE, **{header: "127.0.0.1"})).status_code == 403


class TestOff:
    def test_nothing_is_told_and_nothing_counted(self, config):
        given = Metrics(prometheus=Prometheus(enabled=False))
        made = create_app(msgspec.structs.replace(config, metrics=given), parse(""))
        assert "/metrics" not in {rule.rule for rule in made.url_map.iter_rules()}
        after = made.after_request_funcs.get(None, [])
        assert exporter.__name__ not in {function.__module__ for function in after}

    def test_a_process_without_the_duty_counts_and_does_not_tell(self, config):
        made = create_app(config, parse("admin"))
        assert "/metrics" not in {rule.rule for rule in made.url_map.iter_rules()}
        assert len(made.after_request_funcs[None]) > 0


class TestCounting:
    async def test_requests_count_by_template_and_unknown_methods_as_one(self):
        client = served("")
        for method in ("BREW", "PROPFIND", "GET"):
            await client.open(f"/nowhere/{method}", method=method)
        told = await (await client.get("/inner/m", scope_base={"client": HERE})).get_data(
            as_text=True
        )
        assert 'cv3_requests_total{method="other",route="none",status="404"}' in told
        assert "nowhere" not in told
        assert "BREW" not in told
