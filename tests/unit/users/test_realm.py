"""What we need in a Keycloak realm."""

import json

import pytest

from cvf_app.config import Email, load
from cvf_app.errors import Invalid
from cvf_app.users.identity.configured import check_keycloak, redirects
from cvf_app.users.identity.realm import mail_server, our_client
from cvf_app.wire import convert


def config(tmp_path, **keycloak):
    file = tmp_path / "instance_config.json"
    blocks = {
        "Keycloak": {"Client": "us", "Realm": "r", "URL": "https://k.example.org"} | keycloak,
        "Data": {"UploadPath": "/d"},
    }
    file.write_text(json.dumps(blocks))
    return load(file)


def mail(**smtp):
    return convert({"From": {"Address": "a@b.org"}, "SMTP": {"Host": "m"} | smtp}, Email)


class TestOurClient:
    def test_both_generations_of_redirect_addresses_are_registered(self, tmp_path):
        made = config(tmp_path, RedirectURL="https://a/", RedirectURLs=["https://b/", "https://a/"])
        assert redirects(made) == ("https://a/", "https://b/")
        wanted = ["http://127.0.0.1/callback", "https://a/", "https://b/"]
        assert our_client(made)["redirectUris"] == wanted

    def test_client_is_confidential_and_takes_no_passwords(self, tmp_path):
        client = our_client(config(tmp_path))
        assert client["publicClient"] is client["directAccessGrantsEnabled"] is False
        assert client["implicitFlowEnabled"] is client["fullScopeAllowed"] is False
        assert client["attributes"]["pkce.code.challenge.method"] == "S256"


class TestCheckKeycloak:
    @pytest.mark.parametrize("missing", ["URL", "Realm", "Client"])
    def test_what_is_missing_is_named(self, tmp_path, missing):
        with pytest.raises(Invalid) as refused:
            check_keycloak(config(tmp_path, **{missing: ""}))
        assert refused.value.path == f"$.Keycloak.{missing}"


class TestMailServer:
    @pytest.mark.parametrize(
        ("smtp", "ssl", "starttls"),
        [
            ({}, "false", "true"),
            ({"Port": 465}, "true", "false"),
            ({"Port": "465", "Security": "starttls"}, "false", "true"),
            ({"Security": "tls"}, "true", "false"),
            ({"Security": "none"}, "false", "false"),
        ],
    )
    def test_security_is_that_of_our_own_mail(self, smtp, ssl, starttls):
        found = mail_server(mail(**smtp))
        assert (found["ssl"], found["starttls"], found["auth"]) == (ssl, starttls, "false")

    def test_login_is_given_where_it_is_required(self):
        login = {"Required": True, "Username": "u", "Password": "p"}
        found = mail_server(mail(Authentication=login))
        assert (found["auth"], found["user"], found["password"]) == ("true", "u", "p")
        assert all(isinstance(value, str) for value in found.values())
