"""What the tests of others ask of the servers of full mode, each as a real client does."""

import smtplib
import ssl
import subprocess
import urllib.error
import urllib.request
from email.message import EmailMessage

import pytest

from scripts.services.asking import http_call

# A request of the OAuth device flow (RFC 8628) is the shortest that needs the client's secret.
DEVICE = "device_authorization_endpoint"


@pytest.fixture
def letter():
    made = EmailMessage()
    made["Subject"] = "Grüße"
    made["From"] = "cafe@example.org"
    made["To"] = "ada@example.org"
    made.set_content("Hello")
    return made


class TestSmtp:
    def test_without_tls_there_is_no_login_and_without_a_login_no_mail(self, smtp, letter):
        trust = ssl.create_default_context(cafile=str(smtp.ca))
        with smtplib.SMTP(smtp.host, smtp.port, timeout=10) as client:
            with pytest.raises(smtplib.SMTPNotSupportedError):
                client.login(smtp.username, smtp.password)
            with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
                client.send_message(letter)
            client.starttls(context=trust)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login(smtp.username, "guessed")
            with pytest.raises(smtplib.SMTPSenderRefused, match="Authentication"):
                client.send_message(letter)

    def test_a_certificate_that_nobody_trusts_is_refused(self, smtp):
        with (
            smtplib.SMTP(smtp.host, smtp.port, timeout=10) as client,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            client.starttls(context=ssl.create_default_context())

    def test_a_mail_is_kept_as_it_came(self, smtp, letter):
        trust = ssl.create_default_context(cafile=str(smtp.ca))
        before = len(smtp.mails())
        with smtplib.SMTP(smtp.host, smtp.port, timeout=10) as client:
            client.starttls(context=trust)
            client.login(smtp.username, smtp.password)
            client.send_message(letter)
        with smtplib.SMTP_SSL(smtp.host, smtp.tls_port, timeout=10, context=trust) as client:
            client.login(smtp.username, smtp.password)
            client.send_message(letter)
        with smtplib.SMTP(smtp.host, smtp.plain_port, timeout=10) as client:
            client.send_message(letter)
        kept = smtp.mails()[before:]
        assert [(mail.tls, mail.login) for mail in kept] == [
            (True, smtp.username),
            (True, smtp.username),
            (False, None),
        ]
        assert {mail.sender for mail in kept} == {"cafe@example.org"}
        assert {mail.recipients for mail in kept} == {("ada@example.org",)}
        assert {mail.message["Subject"] for mail in kept} == {"Grüße"}

    def test_it_can_be_told_what_to_answer(self, smtp, letter):
        before = len(smtp.mails())
        with smtplib.SMTP(smtp.host, smtp.plain_port, timeout=10) as client:
            with (
                smtp.answering("451 4.3.0 later"),
                pytest.raises(smtplib.SMTPDataError, match="later"),
            ):
                client.send_message(letter)
            assert len(smtp.mails()) == before
            client.send_message(letter)
        assert len(smtp.mails()) == before + 1


class TestPrometheus:
    def test_its_configuration_is_read_again_when_it_is_asked(self, prometheus):
        told = prometheus.configuration.read_text()
        prometheus.configuration.write_text(told + "  - job_name: another\n")
        try:
            prometheus.reload()
            _, now = http_call(f"{prometheus.address}/api/v1/status/config")
            assert "job_name: another" in now["data"]["yaml"]
            prometheus.configuration.write_text("nonsense: [")
            with pytest.raises(urllib.error.HTTPError):
                prometheus.reload()
        finally:
            prometheus.configuration.write_text(told)
            prometheus.reload()

    def test_promtool_knows_good_from_bad(self, prometheus, tmp_path):
        good = [prometheus.promtool, "check", "config", prometheus.configuration]
        assert subprocess.run(good, capture_output=True, check=False).returncode == 0
        rules = tmp_path / "rules.yml"
        rules.write_text("groups: [{name: a, rules: [{alert: b, expr: 'sum('}]}]")
        bad = [prometheus.promtool, "check", "rules", rules]
        assert subprocess.run(bad, capture_output=True, check=False).returncode != 0


class TestOidcProvider:
    def test_its_client_is_known_and_a_wrong_secret_is_not(self, oidc_provider):
        told = http_call(f"{oidc_provider.address}/.well-known/openid-configuration")[1]
        assert told["issuer"] == oidc_provider.address
        assert _asks(told[DEVICE], oidc_provider.client_id, oidc_provider.client_secret) == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            _asks(told[DEVICE], oidc_provider.client_id, "guessed")


class TestKeycloak:
    def test_its_administrator_logs_in(self, keycloak):
        address = f"{keycloak.address}/realms/master/protocol/openid-connect/token"
        form = f"client_id=admin-cli&grant_type=password&username={keycloak.username}&password="
        sent = urllib.request.Request(address, (form + keycloak.password).encode())
        with urllib.request.urlopen(sent, timeout=60) as answer:
            assert answer.status == 200
        wrong = urllib.request.Request(address, (form + "guessed").encode())
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(wrong, timeout=60)


def _asks(address: str, client_id: str, secret: str) -> int:
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, address, client_id, secret, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    with opener.open(address, f"client_id={client_id}&scope=openid".encode(), timeout=30) as answer:
        return int(answer.status)
