"""Forms that come in pieces, whole and broken."""

from collections.abc import AsyncIterator

import pytest

from cvf_app.errors import Invalid, TooLarge
from cvf_app.files.form import Form, boundary

FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
FIELD = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
END = b"--x--\r\n"


def form(content: bytes, size: int = 7) -> Form:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    return Form(body(), b"x", 10)


async def read(sent: Form) -> list[tuple[str, bytes]]:
    return [
        (file.filename, b"".join([piece async for piece in file.content]))
        async for file in sent.files()
    ]


class TestForm:
    @pytest.mark.parametrize("size", [1, 7, 64, 10**6])
    async def test_fields_and_files_come_in_any_order(self, size: int) -> None:
        inner = b"\r\n--y\r\n\r-x\n--" * 50
        content = FIELD % (b"a", b"1") + FILE % (b"1.csv", inner) + FIELD % (b"b", "ü".encode())
        sent = form(content + FILE % (b"2.csv", b"") + END, size)
        assert await read(sent) == [("1.csv", inner), ("2.csv", b"")]
        assert sent.fields == {"a": "1", "b": "ü"}

    async def test_a_file_that_is_not_read_does_not_disturb_the_next(self) -> None:
        sent = form(FILE % (b"1.csv", b"one" * 100) + FILE % (b"2.csv", b"two") + END)
        assert [file.filename async for file in sent.files()] == ["1.csv", "2.csv"]

    @pytest.mark.parametrize("cut", [0, 3, 30, 80, -1, -5, -9])
    async def test_a_form_that_breaks_off_is_invalid(self, cut: int) -> None:
        content = FILE % (b"1.csv", b"content") + END.rstrip()
        with pytest.raises(Invalid):
            await read(form(content[:cut]))

    @pytest.mark.parametrize(
        "content",
        [
            b"hello",
            b"--x\r\n\r\nno disposition\r\n" + END,
            b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\n\r\n' + END,
            b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n" + END,
            FIELD % (b"a", b"\xff") + END,
        ],
    )
    async def test_what_is_no_form_of_ours_is_invalid(self, content: bytes) -> None:
        with pytest.raises(Invalid):
            await read(form(content))

    async def test_too_many_parts_and_too_large_fields_are_refused(self) -> None:
        with pytest.raises(TooLarge):
            await read(form(FIELD % (b"a", b"1") * 11 + END))
        with pytest.raises(TooLarge):
            await read(form(FIELD % (b"a", b"1" * 10_000) + END, 1000))


class TestBoundary:
    def test_it_is_read_from_the_content_type(self) -> None:
        assert boundary('multipart/form-data; boundary="a b"') == b"a b"

    @pytest.mark.parametrize(
        "kind",
        ["", "text/plain", "multipart/form-data", f"multipart/form-data; boundary={'x' * 201}"],
    )  # fmt: skip
    def test_anything_else_is_invalid(self, kind: str) -> None:
        with pytest.raises(Invalid):
            boundary(kind)
