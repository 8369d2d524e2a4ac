import pytest

from cvf_app.errors import Invalid
from cvf_app.records.model import RecordQuery
from cvf_app.wire import decode, encode


class TestDecode:
    def test_the_path_of_a_fault_is_told(self):
        with pytest.raises(Invalid) as fault:
            decode(b'{"hpo": [{"terms": ["0001250"]}, {"terms": [7]}]}', RecordQuery)
        assert fault.value.path == "$.hpo[1].terms[0]"

    def test_an_unknown_field_is_refused(self):
        with pytest.raises(Invalid, match="unknown field"):
            decode(b'{"hpos": []}', RecordQuery)

    def test_a_float_is_no_integer(self):
        with pytest.raises(Invalid) as fault:
            decode(b'{"subject": {"age": {"min": 0, "max": 17.0}}}', RecordQuery)
        assert fault.value.path == "$.subject.age.max"

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"a": "\xff"}', b"[" * 100_000])
    def test_what_is_no_json_is_invalid(self, data):
        with pytest.raises(Invalid):
            decode(data, RecordQuery)

    def test_a_value_survives_the_wire(self):
        query = decode(b'{"variant": [{"genes": ["NF1"], "mutation": ["missense"]}]}', RecordQuery)
        assert decode(encode(query), RecordQuery) == query
