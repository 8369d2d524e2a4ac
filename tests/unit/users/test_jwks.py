"""The keys that a provider publishes."""

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from cvf_app.users.identity.jwks import choose, read_keys


def published(key, **more):
    return key.as_dict(private=False) | more


RSA = RSAKey.generate_key(2048)


class TestReadKeys:
    def test_kinds_that_sign_are_read(self):
        found = read_keys(
            [
                published(RSA, kid="rsa", use="sig", alg="RS256"),
                published(ECKey.generate_key("P-256"), kid="ec"),
                published(OKPKey.generate_key("Ed25519"), kid="okp"),
            ]
        )
        assert set(found) == {"rsa", "ec", "okp"}

    @pytest.mark.parametrize(
        "other",
        [
            published(RSA, kid="k", use="enc", alg="RSA-OAEP"),
            OctKey.generate_key(256).as_dict() | {"kid": "k"},
            {"kty": "RSA", "kid": "k", "n": "?"},
            {"kty": "RSA", "kid": "k"},
            {"kid": "k"},
            {},
        ],
    )
    def test_others_are_passed_over(self, other):
        assert set(read_keys([other, published(RSA, kid="good")])) == {"good"}


class TestChoose:
    def test_a_name_means_its_key_and_no_name_the_only_one(self):
        keys = read_keys([published(RSA, kid="one")])
        assert choose(keys, "one") is choose(keys, None) is keys["one"]
        for name in ("two", "", 7, ["one"]):
            assert choose(keys, name) is None

    def test_no_name_means_nothing_among_several(self):
        keys = read_keys([published(RSA, kid=kid) for kid in ("one", "two")])
        assert choose(keys, None) is None
