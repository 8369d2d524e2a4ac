"""Secrets and keys: what the instance asks of a key store, and one kept in a folder of files.

`KeyStore` is what Vault's KV2 and transit engines give, in our words: versioned secrets with
check-and-set, named keys that encrypt, and one key pair per person. `FileKeyStore` serves it
without a server, in the encrypted files of `sealed.py`; several processes may share one folder.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac as hmaclib
import os
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cvf_app.backends.sealed import SealedFolder
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.wire import Wire, decode, encode

T = TypeVar("T")

_KEY_BYTES = 32
_VERSIONS_KEPT = 10
_USER_KEY_BITS = 4096


@dataclass(frozen=True, kw_only=True)
class Secret:
    """One version of a secret: its fields and its number."""

    data: Mapping[str, str]
    version: int


class KeyStore(Protocol):
    """Where secrets and keys live; nothing of them stands in configuration or database."""

    async def read_secret(self, path: str, version: int | None = None) -> Secret:
        """Return the newest version of a secret, or the one asked for.

        Raises:
            NotFound: there is none.
        """

    async def write_secret(
        self, path: str, data: Mapping[str, str], check_and_set: int | None = None
    ) -> int:
        """Write a new version and return its number.

        Raises:
            Conflict: `check_and_set` is not the present version (0: there must be none).
        """

    async def delete_secret(self, path: str) -> None:
        """Destroy all versions of a secret; one that is not there is fine."""

    async def encrypt(self, key: str, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt under the newest version of a named key, which is made when it is not there.

        Only the same `context` opens the result again.
        """

    async def decrypt(self, key: str, ciphertext: str, context: bytes = b"") -> bytes:
        """Open what `encrypt` made, under any version of the key.

        Raises:
            Unavailable: the key or the context is another one, or the text was changed.
        """

    async def hmac(self, key: str, data: bytes) -> str:
        """Return a keyed digest that stays the same when the key is rotated (a blind index)."""

    async def rotate(self, key: str) -> int:
        """Give a named key a new version and return its number; older texts still open."""

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's key pair; one that is there is kept."""

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key pair."""

    async def count_user_keys(self) -> int | None:
        """Return how many people have a key pair; nothing where the store does not tell."""

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair; what was encrypted for it is lost."""

    async def public_key(self, user_id: str) -> bytes:
        """Return a person's public key as PEM.

        Raises:
            NotFound: this person has none.
        """

    async def close(self) -> None:
        """Let go of threads and connections."""


class _SecretRecord(Wire, frozen=True, kw_only=True):
    current: int
    versions: dict[str, dict[str, str]]


class _NamedKey(Wire, frozen=True, kw_only=True):
    current: int
    versions: dict[str, bytes]
    index_key: bytes


class _UserKey(Wire, frozen=True, kw_only=True):
    private_key: bytes
    public_key: bytes


class FileKeyStore:
    """A key store in a private folder of encrypted files."""

    def __init__(self, folder: SealedFolder) -> None:
        self._folder = folder
        self._named: dict[str, _NamedKey] = {}
        self._files = ThreadPoolExecutor(2, thread_name_prefix="keystore")
        # An RSA key takes a second of one core; reads must not wait behind it.
        self._makers = ThreadPoolExecutor(4, thread_name_prefix="key-maker")

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Self:
        """Open a key store; with `create`, a new one is made where the folder is missing or empty.

        Raises:
            Unavailable: there is none, others may read it, or its master key is missing.
        """
        return cls(SealedFolder(folder, create=create))

    async def close(self) -> None:
        """Let go of the threads; unfinished key generation is not waited for."""
        self._files.shutdown(wait=False, cancel_futures=True)
        self._makers.shutdown(wait=False, cancel_futures=True)
        self._named.clear()

    async def read_secret(self, path: str, version: int | None = None) -> Secret:
        """Return the newest version of a secret, or the one asked for.

        Raises:
            NotFound: there is none.
        """
        record = await self._on_files(lambda: self._load("secret", path, _SecretRecord))
        number = 0 if record is None else version or record.current
        if record is None or str(number) not in record.versions:
            raise NotFound(f"The key store has no secret '{path}' of this version.")
        return Secret(data=record.versions[str(number)], version=number)

    async def write_secret(
        self, path: str, data: Mapping[str, str], check_and_set: int | None = None
    ) -> int:
        """Write a new version and return its number; the newest ten are kept.

        Raises:
            Conflict: `check_and_set` is not the present version (0: there must be none).
        """
        fields = dict(data)

        def write() -> int:
            with self._folder.locked():
                old = self._load("secret", path, _SecretRecord)
                present = 0 if old is None else old.current
                if check_and_set is not None and check_and_set != present:
                    raise Conflict(f"The secret '{path}' was changed by someone else meanwhile.")
                number = present + 1
                kept = {} if old is None else dict(old.versions)
                kept[str(number)] = fields
                kept.pop(str(number - _VERSIONS_KEPT), None)
                self._keep("secret", path, _SecretRecord(current=number, versions=kept))
                return number

        return await self._on_files(write)

    async def delete_secret(self, path: str) -> None:
        """Destroy all versions of a secret; one that is not there is fine."""
        await self._on_files(lambda: self._folder.drop(_record("secret", path)))

    async def encrypt(self, key: str, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt under the newest version of a named key: `cv1:<version>:<base64>`."""
        named = await self._named_key(key)
        nonce = os.urandom(12)
        bound = _bound(key, named.current, context)
        sealed = AESGCM(named.versions[str(named.current)]).encrypt(nonce, plaintext, bound)
        return f"cv1:{named.current}:{base64.b64encode(nonce + sealed).decode()}"

    async def decrypt(self, key: str, ciphertext: str, context: bytes = b"") -> bytes:
        """Open what `encrypt` made, under any version of the key.

        Raises:
            Unavailable: the key or the context is another one, or the text was changed.
        """
        mark, _, rest = ciphertext.partition(":")
        number, _, text = rest.partition(":")
        named = await self._named_key(key)
        if number not in named.versions:
            # Another process may have rotated the key since we read it.
            named = await self._named_key(key, fresh=True)
        if mark != "cv1" or number not in named.versions:
            raise Unavailable("A stored value names a key version that there is not.")
        try:
            raw = base64.b64decode(text, validate=True)
            bound = _bound(key, int(number), context)
            return AESGCM(named.versions[number]).decrypt(raw[:12], raw[12:], bound)
        except (ValueError, binascii.Error, InvalidTag) as fault:
            raise Unavailable("A stored value cannot be opened with the key it names.") from fault

    async def hmac(self, key: str, data: bytes) -> str:
        """Return a keyed SHA-256 digest in hex that stays the same when the key is rotated."""
        named = await self._named_key(key)
        return hmaclib.new(named.index_key, data, hashlib.sha256).hexdigest()

    async def rotate(self, key: str) -> int:
        """Give a named key a new version and return its number; older texts still open."""

        def rotate() -> _NamedKey:
            with self._folder.locked():
                old = self._load("key", key, _NamedKey) or _new_named_key()
                number = old.current + 1
                versions = {**old.versions, str(number): secrets.token_bytes(_KEY_BYTES)}
                new = _NamedKey(current=number, versions=versions, index_key=old.index_key)
                self._keep("key", key, new)
                return new

        self._named[key] = await self._on_files(rotate)
        return self._named[key].current

    async def rotate_master(self) -> None:
        """Make a new master key and wrap every record under it."""
        await self._on_files(self._folder.rotate_master)

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's RSA key pair; one that is there is kept."""
        if await self.has_user_key(user_id):
            return
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._makers, _new_user_key)

        def keep() -> None:
            with self._folder.locked():
                if not self._folder.has(_record("user", user_id)):
                    self._keep("user", user_id, made)

        await self._on_files(keep)

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key pair."""
        return await self._on_files(lambda: self._folder.has(_record("user", user_id)))

    async def count_user_keys(self) -> int:
        """Return how many people have a key pair."""
        return await self._on_files(lambda: self._folder.count("user-"))

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair; what was encrypted for it is lost."""
        await self._on_files(lambda: self._folder.drop(_record("user", user_id)))

    async def public_key(self, user_id: str) -> bytes:
        """Return a person's public key as PEM.

        Raises:
            NotFound: this person has none.
        """
        record = await self._on_files(lambda: self._load("user", user_id, _UserKey))
        if record is None:
            raise NotFound("This person has no key.")
        return record.public_key

    async def _named_key(self, name: str, *, fresh: bool = False) -> _NamedKey:
        if fresh or name not in self._named:
            self._named[name] = await self._on_files(lambda: self._load_or_make(name))
        return self._named[name]

    def _load_or_make(self, name: str) -> _NamedKey:
        with self._folder.locked():
            named = self._load("key", name, _NamedKey)
            if named is None:
                named = _new_named_key()
                self._keep("key", name, named)
            return named

    async def _on_files(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def _load(self, kind: str, name: str, shape: type[T]) -> T | None:
        content = self._folder.load(_record(kind, name))
        return None if content is None else decode(content, shape)

    def _keep(self, kind: str, name: str, record: Wire) -> None:
        self._folder.keep(_record(kind, name), encode(record))


def _record(kind: str, name: str) -> str:
    # A digest, so that no name can leave the folder or meet another in letter case.
    return f"{kind}-{hashlib.sha256(f'{kind}/{name}'.encode()).hexdigest()}"


def _new_named_key() -> _NamedKey:
    return _NamedKey(
        current=1,
        versions={"1": secrets.token_bytes(_KEY_BYTES)},
        index_key=secrets.token_bytes(_KEY_BYTES),
    )


def _new_user_key() -> _UserKey:
    made = rsa.generate_private_key(public_exponent=65537, key_size=_USER_KEY_BITS)
    return _UserKey(
        private_key=made.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        public_key=made.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def _bound(key: str, version: int, context: bytes) -> bytes:
    return b"\0".join((b"cv1", key.encode(), str(version).encode(), context))
