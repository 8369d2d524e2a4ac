"""The sealed file around a backup: a header, and chunks that only whoever has the key can read.

The file begins with `CVB1`, the length of the header (four bytes, the highest first) and the header
as JSON. A key made for this one file seals chunks of at most a MiB by AES-256-GCM (NIST SP
800-38D); the header holds that key, sealed under a passphrase by scrypt (RFC 7914) or for the owner
of an X25519 key (RFC 7748, HKDF of RFC 5869). Chunks are numbered in their nonce, which also marks
the last one (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015), and each is
bound to the whole header. So a changed, swapped, missing or added byte is noticed, and so is a file
that ends too soon.
"""

import hashlib
import os
import secrets
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cvf_app.errors import Invalid
from cvf_app.wire import Wire, decode, encode

_MAGIC = b"CVB1"
_CHUNK = 2**20
_TAG = 16
_KEY_BYTES = 32
_LENGTH = 4
_LONGEST_HEADER = 4096
_COST, _LOWEST_COST, _HIGHEST_COST = 2**17, 2**10, 2**20
_SHORTEST_PASSPHRASE = 12
_INFO = b"cafe-variome backup"
_CHANGED = "This backup is damaged or was changed: it cannot be trusted, and nothing was written."
_CUT = "This backup is not whole: it ends too soon. Nothing was written."


class Lock(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """How the key of the file is sealed: by a passphrase (`salt`, `cost`), or for a key's owner."""

    salt: bytes = b""
    cost: int = 0
    ephemeral: bytes = b""


class Header(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """The header: its lock, and the sealed key of the file."""

    format: int = 1
    lock: Lock
    nonce: bytes
    sealed_key: bytes


class Passphrase:
    """A passphrase that opens and closes a backup."""

    def __init__(self, text: str, cost: int = _COST) -> None:
        """Take the passphrase; `cost` is scrypt's N, which takes 128 MiB at 2**17.

        Raises:
            Invalid: it is too short to protect anything.
        """
        if len(text) < _SHORTEST_PASSPHRASE:
            raise Invalid(f"A passphrase has at least {_SHORTEST_PASSPHRASE} characters.")
        self._text = text.encode()
        self._cost = cost

    def close(self) -> tuple[Lock, bytes]:
        """Return a new lock and the key that seals the file's key."""
        lock = Lock(salt=secrets.token_bytes(16), cost=self._cost)
        return lock, self.open(lock)

    def open(self, lock: Lock) -> bytes:
        """Return the key that a lock was made with.

        Raises:
            Invalid: the lock is none of a passphrase.
        """
        if not lock.salt:
            raise Invalid("This backup was made for a key, not with a passphrase: --identity KEY")
        if not _LOWEST_COST <= lock.cost <= _HIGHEST_COST or lock.cost & (lock.cost - 1):
            raise Invalid(_CHANGED)
        return Scrypt(lock.salt, _KEY_BYTES, n=lock.cost, r=8, p=1).derive(self._text)


class Recipient:
    """The public X25519 key of whoever may open a backup."""

    def __init__(self, pem: bytes) -> None:
        """Read the key.

        Raises:
            Invalid: it is none.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except ValueError as fault:
            raise Invalid("The recipient's key is no public key in PEM.") from fault
        if not isinstance(key, X25519PublicKey):
            raise Invalid("The recipient's key is not of the kind X25519.")
        self._key = key

    def close(self) -> tuple[Lock, bytes]:
        """Return a new lock and the key that seals the file's key."""
        own = X25519PrivateKey.generate()
        ephemeral = own.public_key().public_bytes_raw()
        return Lock(ephemeral=ephemeral), _agreed(own.exchange(self._key), ephemeral, self._key)


class Identity:
    """The private X25519 key that opens a backup made for it."""

    def __init__(self, pem: bytes) -> None:
        """Read the key.

        Raises:
            Invalid: it is none, or it is sealed itself.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as fault:
            raise Invalid("The key is no unencrypted private key in PEM.") from fault
        if not isinstance(key, X25519PrivateKey):
            raise Invalid("The key is not of the kind X25519.")
        self._key = key

    def open(self, lock: Lock) -> bytes:
        """Return the key that a lock was made with.

        Raises:
            Invalid: the lock is none of a key.
        """
        if not lock.ephemeral:
            raise Invalid("This backup was made with a passphrase, not for a key.")
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(lock.ephemeral))
        except ValueError as fault:
            raise Invalid(_CHANGED) from fault
        return _agreed(shared, lock.ephemeral, self._key.public_key())


class SealedWriter:
    """Bytes go in, sealed chunks come out; only `close` makes the file whole."""

    def __init__(self, out: BinaryIO, keeper: Passphrase | Recipient) -> None:
        """Write the header."""
        lock, wrapping = keeper.close()
        key, nonce = secrets.token_bytes(_KEY_BYTES), os.urandom(12)
        sealed = AESGCM(wrapping).encrypt(nonce, key, encode(lock))
        text = encode(Header(lock=lock, nonce=nonce, sealed_key=sealed))
        head = _MAGIC + len(text).to_bytes(_LENGTH, "big") + text
        self._out, self._waiting, self._number = out, bytearray(), 0
        self._cipher, self._bound = AESGCM(key), hashlib.sha256(head).digest()
        out.write(head)

    def write(self, data: bytes) -> None:
        """Take bytes; a chunk is written as soon as it is full and another begins."""
        self._waiting += data
        while len(self._waiting) > _CHUNK:
            self._seal(bytes(self._waiting[:_CHUNK]), last=False)
            del self._waiting[:_CHUNK]

    def close(self) -> None:
        """Write the last chunk, marked as the last."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last=last), chunk, self._bound)
        self._out.write(len(sealed).to_bytes(_LENGTH, "big") + sealed)
        self._number += 1


class SealedReader:
    """Sealed chunks go in, bytes come out, each only after it was found to be genuine."""

    def __init__(self, source: BinaryIO, keeper: Passphrase | Identity) -> None:
        """Read the header and open the key of the file.

        Raises:
            Invalid: this is no backup, or the passphrase or key is another one.
        """
        head = source.read(len(_MAGIC) + _LENGTH)
        length = int.from_bytes(head[len(_MAGIC) :], "big")
        if not head.startswith(_MAGIC) or length > _LONGEST_HEADER:
            raise Invalid("This is no backup of Cafe Variome.")
        text = source.read(length)
        if len(text) != length:
            raise Invalid(_CUT)
        header = decode(text, Header)
        wrapping = keeper.open(header.lock)
        try:
            key = AESGCM(wrapping).decrypt(header.nonce, header.sealed_key, encode(header.lock))
        except (InvalidTag, ValueError) as fault:
            raise Invalid(
                "The passphrase or key does not open this backup. Nothing was written."
            ) from fault
        self._source, self._number, self._over = source, 0, False
        self._cipher, self._bound = AESGCM(key), hashlib.sha256(head + text).digest()

    def chunk(self) -> bytes | None:
        """Return the next bytes; nothing after the last.

        Raises:
            Invalid: the file was changed, is cut off, or something was added.
        """
        if self._over:
            return None
        length = int.from_bytes(self._read(_LENGTH), "big")
        if not _TAG <= length <= _CHUNK + _TAG:
            raise Invalid(_CHANGED)
        sealed = self._read(length)
        # The last chunk is the one at the end of the file, and it must have been sealed as that.
        following = self._source.read(1)
        self._over = not following
        if following:
            self._source.seek(-1, os.SEEK_CUR)
        try:
            nonce = _nonce(self._number, last=self._over)
            opened = self._cipher.decrypt(nonce, sealed, self._bound)
        except InvalidTag as fault:
            raise Invalid(_CUT if self._is_genuine(sealed) else _CHANGED) from fault
        self._number += 1
        return opened

    def _is_genuine(self, sealed: bytes) -> bool:
        """Say whether this is a chunk of ours that only has the wrong place in the file."""
        try:
            other = _nonce(self._number, last=not self._over)
            self._cipher.decrypt(other, sealed, self._bound)
        except InvalidTag:
            return False
        return True

    def _read(self, count: int) -> bytes:
        data = self._source.read(count)
        if len(data) != count:
            raise Invalid(_CUT)
        return data


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


def _agreed(shared: bytes, ephemeral: bytes, key: X25519PublicKey) -> bytes:
    salt = ephemeral + key.public_bytes_raw()
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=salt, info=_INFO).derive(shared)
