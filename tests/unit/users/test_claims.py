"""What an access token must say to count here, claim by claim."""

from datetime import UTC, datetime, timedelta

import pytest

from cvf_app.errors import Unauthenticated
from cvf_app.users.identity.claims import Expected, read_claims, unknown_claims

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXPECTED = Expected(issuer="https://id.example.org", client_id="us", now=NOW)
ACCESS = {"alg": "RS256", "typ": "at+jwt"}


def at(**shift):
    return int((NOW + timedelta(**shift)).timestamp())


def claims(**changed):
    good = {
        "iss": "https://id.example.org",
        "sub": "ada",
        "aud": ["us"],
        "iat": at(seconds=-5),
        "exp": at(minutes=5),
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


class TestReadClaims:
    def test_good_token_names_its_person(self):
        read = read_claims(ACCESS, claims(), EXPECTED)
        assert (read.subject, read.expires_at) == ("ada", NOW + timedelta(minutes=5))

    @pytest.mark.parametrize(
        "changed",
        [
            {"aud": "us"},
            {"aud": ["account", "us"], "azp": "us", "client_id": "us"},
            {"exp": at(seconds=-29)},
            {"nbf": at(seconds=29)},
            {"iat": None},
        ],
    )
    def test_all_that_the_rules_allow_passes(self, changed):
        assert read_claims(ACCESS, claims(**changed), EXPECTED).subject == "ada"

    def test_keycloak_marks_its_access_tokens_in_the_body(self):
        assert read_claims({"typ": "JWT"}, claims(typ="Bearer"), EXPECTED).subject == "ada"

    @pytest.mark.parametrize(
        "changed",
        [
            {"iss": "https://id.example.org/"},
            {"iss": "https://evil.example.org"},
            {"iss": None},
            {"sub": None},
            {"sub": ""},
            {"sub": 7},
            {"sub": "x" * 256},
            {"aud": None},
            {"aud": "them"},
            {"aud": ["them"], "azp": "them"},
            # Exchanged for another service: whoever got it must not come back with it.
            {"aud": ["them"], "azp": "us"},
            # Another client's token that names us among others.
            {"aud": ["them", "us"], "azp": "them"},
            {"aud": ["us"], "client_id": "them"},
            {"aud": ["us"], "azp": ["us"]},
            {"aud": {"us": 1}},
            {"exp": None},
            {"exp": at(seconds=-31)},
            {"exp": "never"},
            {"exp": True},
            {"exp": 1e300},
            {"exp": float("nan")},
            {"nbf": at(seconds=31)},
            {"iat": at(minutes=10)},
            {"typ": "ID"},
            {"typ": "Refresh"},
            {"typ": "Logout"},
        ],
    )
    def test_one_bad_claim_is_enough(self, changed):
        with pytest.raises(Unauthenticated):
            read_claims(ACCESS, claims(**changed), EXPECTED)

    @pytest.mark.parametrize("kind", ["JWT", "logout+jwt", None, ["at+jwt"]])
    def test_id_token_opens_nothing(self, kind):
        with pytest.raises(Unauthenticated):
            read_claims({"alg": "RS256", "typ": str(kind)}, claims(nonce="n"), EXPECTED)

    def test_expired_token_says_so(self):
        with pytest.raises(Unauthenticated, match="expired"):
            read_claims(ACCESS, claims(exp=at(days=-1)), EXPECTED)


class TestUnknownClaims:
    def test_only_claims_of_no_group_are_reported(self):
        assert unknown_claims(claims(scope="openid", azp="us", mystery=1)) == {"mystery"}
