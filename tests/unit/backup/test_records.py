import io
import random
import zlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cvf_app.backup.envelope import (
    Identity,
    Passphrase,
    Recipient,
    SealedReader,
    SealedWriter,
)
from cvf_app.backup.records import Info, Placed, Reader, Writer
from cvf_app.backup.settings import without_secrets
from cvf_app.errors import CafeVariomeError, Invalid
from cvf_app.wire import encode

CHEAP = 2**10
WORDS = Passphrase("correct horse battery", CHEAP)
MIB = 2**20
INFO = Info(backup="b1", made_at=1, version="3", schema=2, database="d", keys="file", config="{}")


def sealed(content: bytes, keeper=WORDS) -> bytes:
    out = io.BytesIO()
    writer = SealedWriter(out, keeper)
    for begin in range(0, len(content), 700_000):
        writer.write(content[begin : begin + 700_000])
    writer.close()
    return out.getvalue()


def opened(data: bytes, keeper=WORDS) -> bytes:
    reader = SealedReader(io.BytesIO(data), keeper)
    parts = []
    while (part := reader.chunk()) is not None:
        parts.append(part)
    return b"".join(parts)


def written(documents: dict[str, list[bytes]], files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, WORDS, INFO)
    for name, of in documents.items():
        writer.collection(name)
        for document in of:
            writer.document(name, document)
    for path, content in files.items():
        writer.file(Placed(area="data", path=path), io.BytesIO(content))
    writer.close()
    return out.getvalue()


@pytest.fixture(scope="module")
def pair():
    key = X25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Recipient(public), Identity(private)


class TestEnvelope:
    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
    def test_what_goes_in_comes_out(self, size):
        content = random.Random(size).randbytes(size)
        data = sealed(content)
        assert opened(data) == content
        assert content[:64] not in data or size < 8

    def test_a_recipient_opens_what_was_made_for_them(self, pair):
        recipient, identity = pair
        assert opened(sealed(b"x" * 99, recipient), identity) == b"x" * 99

    def test_another_key_or_passphrase_does_not(self, pair):
        recipient, _ = pair
        foreign = Identity(
            X25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        for data, keeper in (
            (sealed(b"x"), Passphrase("correct horse batterY", CHEAP)),
            (sealed(b"x", recipient), foreign),
            (sealed(b"x", recipient), WORDS),
            (sealed(b"x"), foreign),
        ):
            with pytest.raises(Invalid):
                opened(data, keeper)

    def test_every_shorter_file_is_refused(self):
        data = sealed(random.Random(1).randbytes(2 * MIB + 10))
        for length in (*range(0, 400, 3), MIB, MIB + 200, 2 * MIB, len(data) - 30, len(data) - 1):
            with pytest.raises(CafeVariomeError):
                opened(data[:length])

    def test_a_file_cut_between_chunks_ends_too_soon(self):
        data = sealed(random.Random(2).randbytes(2 * MIB))
        head = data.index(b"}") + 1
        while data[head : head + 1] == b"}":
            head += 1
        first = head + 4 + MIB + 16
        with pytest.raises(Invalid, match="ends too soon"):
            opened(data[:first])

    def test_swapped_chunks_are_refused(self):
        data = sealed(random.Random(3).randbytes(3 * MIB))
        whole = MIB + 16 + 4
        head = len(data) - 3 * whole
        one, two = data[head : head + whole], data[head + whole : head + 2 * whole]
        with pytest.raises(Invalid):
            opened(data[:head] + two + one + data[head + 2 * whole :])

    def test_something_added_is_refused(self):
        data = sealed(b"x" * 10)
        for more in (b"\0", b"\0" * 30, data):
            with pytest.raises(Invalid):
                opened(data + more)

    @given(st.data())
    def test_every_changed_byte_is_noticed(self, data):
        whole = bytearray(sealed(b"some content of a backup" * 9))
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
        with pytest.raises(CafeVariomeError):
            opened(bytes(whole))

    @pytest.mark.parametrize("text", ["", "short", "eleven char"])
    def test_a_short_passphrase_is_refused(self, text):
        with pytest.raises(Invalid, match="at least 12"):
            Passphrase(text)

    @pytest.mark.parametrize("pem", [b"", b"-----BEGIN PUBLIC KEY-----\n"])
    def test_what_is_no_key_is_refused(self, pem):
        for kind in (Recipient, Identity):
            with pytest.raises(Invalid):
                kind(pem)


class TestRecords:
    @given(
        st.dictionaries(st.text(min_size=1, max_size=5), st.lists(st.binary(max_size=50))),
        st.dictionaries(st.text(min_size=1, max_size=5), st.binary(max_size=3000)),
    )
    def test_a_reader_finds_what_was_written(self, documents, files):
        reader = Reader(io.BytesIO(written(documents, files)), WORDS)
        assert reader.info == INFO
        found = [kind for kind, _ in reader]
        assert found.count(b"D") == sum(map(len, documents.values()))
        assert found.count(b"E") == len(files)
        assert {name: total.count for name, total in reader.manifest.collections.items()} == {
            name: len(of) for name, of in documents.items()
        }

    def test_a_stream_that_was_not_written_to_its_end_is_refused(self):
        body = encode(INFO)
        begun = b"I" + len(body).to_bytes(4, "big") + body + b"C\0\0\0\1c"
        out = io.BytesIO(sealed(zlib.compress(begun)))
        with pytest.raises(Invalid, match="does not hold together"):
            list(Reader(out, WORDS))

    def test_a_stream_that_says_something_else_than_it_holds_is_refused(self):
        out = io.BytesIO()
        writer = Writer(out, WORDS, INFO)
        writer.document("c", b"x")
        writer.tally.document("c", b"y")
        writer.close()
        out.seek(0)
        with pytest.raises(Invalid, match="does not hold together"):
            list(Reader(out, WORDS))

    def test_large_files_pass_in_pieces(self):
        content = b"\0" * (40 * MIB)
        reader = Reader(io.BytesIO(written({}, {"big": content})), WORDS)
        sizes = [len(body) for kind, body in reader if kind == b"B"]
        assert sum(sizes) == len(content)
        assert max(sizes) <= MIB


class TestSettings:
    def test_no_secret_is_left(self):
        raw = b"""{"MongoDB": {"Host": "h", "Password": "geheim"}, "Vault": {"KV2Prefix": "k"},
          "Metrics": {"Prometheus": {"Key": "geheim", "Path": "/metrics"}},
          "Logging": {"SplunkHEC": {"Token": "geheim"}, "Loki": {"Auth": {"Password": "geheim"}}},
          "Neo4j": {"URI": "bolt://u:geheim@h:1"}, "Jobs": {"Types": {"a": "b"}},
          "Email": {"SMTP": {"Authentication": {"Username": "u", "Password": "geheim"}}},
          "Secrets": {"Provider": "file", "Path": "p"}}"""
        text = without_secrets(raw)
        assert "geheim" not in text
        assert all(kept in text for kept in ('"k"', '"/metrics"', '"p"', "bolt://h:1", '"b"'))
