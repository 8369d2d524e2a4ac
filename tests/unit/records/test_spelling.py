"""Two spellings in, one kept, and nothing too large."""

import pytest

from cvf_app.errors import Invalid
from cvf_app.records.spelling import read_query
from cvf_app.wire import decode, encode


class TestReadQuery:
    def test_prose_is_kept_in_the_spelling_of_the_files(self):
        query = read_query(
            encode(
                {
                    "subject": {"familyType": {"trio": True}},
                    "hpo": [{"terms": ["0001250"], "useOrphanet": True}],
                    "ordo": [{"terms": ["58"], "matchScale": 2}],
                    "variants": [{"genes": ["SCN1A"]}],
                }
            )
        )
        assert decode(encode(query), dict) == {
            "subject": {"familyType": {"trios": True}},
            "hpo": [{"terms": ["0001250"], "useOrphaNet": True}],
            "ordo": [{"terms": ["58"], "minimumMatch": 2}],
            "variant": [{"genes": ["SCN1A"]}],
        }

    @pytest.mark.parametrize(
        ("sent", "path"),
        [
            ({"hpo": [{"terms": ["1"] * 201}]}, "$.hpo[0].terms"),
            ({"eav": [{}] * 101}, "$.eav"),
            ({"sources": {"sources": ["a"] * 1001}}, "$.sources.sources"),
            ({"eav": [{"attribute": "a" * 2001}]}, "$.eav[0].attribute"),
            ({"eav": [{"value": 2**63}]}, "$.eav[0].value"),
            ({"variant": [], "variants": []}, "$.variants"),
            ({"ordo": [{"terms": [], "matchScale": 1, "minimumMatch": 1}]}, "$.ordo[0].matchScale"),
            ({"genes": [[[[[[[[[]]]]]]]]]}, "$.genes[0][0][0][0][0][0][0]"),
            ({"hpo": "0001250"}, "$.hpo"),
            ({"colour": "red"}, "$"),
        ],
    )
    def test_what_cannot_stand_is_refused_with_its_path(self, sent, path):
        with pytest.raises(Invalid) as refused:
            read_query(encode(sent))
        assert refused.value.path == path

    @pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"null"])
    def test_what_is_no_query_is_refused(self, data):
        with pytest.raises(Invalid):
            read_query(data)
