"""A form is read the same however the network cuts it."""

from collections.abc import AsyncIterator

from hypothesis import assume, given
from hypothesis import strategies as st

from cvf_app.files.form import Form

# Bytes of which boundaries are made, so that most contents nearly have one.
contents = st.lists(st.sampled_from(list(b"\r\nx-ab")), max_size=200).map(bytes)


class TestForm:
    @given(
        content=contents,
        mark=st.integers(1, 40).map(lambda count: b"x" * count),
        cuts=st.lists(st.integers(1, 60), min_size=1, max_size=20),
    )
    async def test_the_content_does_not_depend_on_the_cuts(
        self, content: bytes, mark: bytes, cuts: list[int]
    ) -> None:
        assume(b"--" + mark not in content)
        head = b'\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        field = b'\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
        body = b"--%b%b%b\r\n--%b%b--%b--\r\n" % (mark, head, content, mark, field, mark)

        async def cut() -> AsyncIterator[bytes]:
            start = number = 0
            while start < len(body):
                end = start + cuts[number % len(cuts)]
                yield body[start:end]
                start, number = end, number + 1

        form = Form(cut(), mark, 5)
        read = [b"".join([piece async for piece in file.content]) async for file in form.files()]
        assert read == [content]
        assert form.fields == {"field": "value"}
