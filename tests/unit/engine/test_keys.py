"""Keys: no two names or values share one, and all of a name stand together."""

from hypothesis import given
from hypothesis import strategies as st

from cvf_app.engine.keys import Kind, after, key, prefix, split

names = st.text(alphabet="a\x00\x01\xffé", max_size=4)


class TestKeys:
    @given(names, names)
    def test_a_key_gives_back_its_name_and_value(self, name: str, value: str):
        assert split(key(Kind.TEXT, name, value)) == (name, value)

    @given(names, names, names)
    def test_a_prefix_holds_its_own_keys_only(self, name: str, other: str, value: str):
        start = prefix(Kind.TEXT, name)
        whole = key(Kind.TEXT, other, value)
        assert (start <= whole < after(start)) == (name == other)
