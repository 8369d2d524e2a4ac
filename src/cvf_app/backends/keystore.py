"""Secrets and keys: what the instance asks of a key store, and one kept in a folder of files.

`KeyStore` is what Vault's KV2 and transit engines give, in our words: versioned secrets with
check-and-set, named keys that encrypt, and one key pair per person. `VaultKeyStore` (`vault.py`)
serves it in full mode; `FileKeyStore` serves it without a server, in the encrypted files of
`sealed.py`, which several processes may share. A key that one process rotates is used by the
others within `KEY_FRESH_SECONDS`.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac as hmaclib
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cvf_app import metrics
from cvf_app.backends.key_records import (
    KEY_BYTES,
    NamedKey,
    SecretRecord,
    UserKey,
    bound_to,
    new_named_key,
    new_user_key,
    record_name,
)
from cvf_app.backends.sealed import SealedFolder
from cvf_app.errors import Conflict, NotFound, Unavailable
from cvf_app.wire import Wire, decode, encode

T = TypeVar("T")

KEY_FRESH_SECONDS = 10.0
_VERSIONS_KEPT = 10


@dataclass(frozen=True, kw_only=True)
class Secret:
    """One version of a secret: its fields, which no log ever shows, and its number."""

    data: Mapping[str, str] = field(repr=False)
    version: int


@dataclass(frozen=True)
class SealedText:
    """What `encrypt` returned, and the context that it was bound to."""

    text: str
    context: bytes = b""


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

    async def decrypt_many(self, key: str, texts: Sequence[SealedText]) -> tuple[bytes, ...]:
        """Open many texts, in their order, in as few calls as there can be.

        Raises:
            Unavailable: one of them cannot be opened.
        """

    async def hmac(self, key: str, data: bytes) -> str:
        """Return a keyed digest that stays the same when the key is rotated (a blind index)."""

    async def rotate(self, key: str) -> int:
        """Give a named key a new version and return its number; older texts still open."""

    async def newest_version(self, key: str) -> int:
        """Return the number of the version that encrypts now (see `version_of`)."""

    async def rewrap(self, key: str, texts: Sequence[SealedText]) -> tuple[str, ...]:
        """Encrypt texts anew under the newest version, bound to the contexts that they had.

        Raises:
            Unavailable: one of them cannot be opened.
        """

    async def retire(self, key: str, below: int) -> None:
        """Open no text any more whose version is below this one; call it when none is left.

        Raises:
            Conflict: there is no such version yet.
        """

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's key pair; one that is there is kept."""

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key pair."""

    async def count_user_keys(self) -> int | None:
        """Return how many people have a key pair; none where the store cannot tell."""

    async def has_user_keys(self, user_ids: Collection[str]) -> frozenset[str]:
        """Return those of these people who have a key pair."""

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair, if there is one; what was encrypted for it is lost."""

    async def public_key(self, user_id: str) -> bytes:
        """Return a person's public key as PEM.

        Raises:
            NotFound: this person has none.
        """

    async def state(self) -> str:
        """Say what keeps the keys, in a few words for an administrator.

        Raises:
            Unavailable: it does not do its work now; the sentence says why.
        """

    async def tend(self) -> None:
        """Do what must be done now and then (prolong a login); never fails for a missing server."""

    async def close(self) -> None:
        """Let go of threads and connections."""


@dataclass(frozen=True)
class _Loaded:
    """A named key and when it was read."""

    key: NamedKey
    at: float


class FileKeyStore:
    """A key store in a private folder of encrypted files."""

    def __init__(self, folder: SealedFolder) -> None:
        self._folder = folder
        self._named: dict[str, _Loaded] = {}
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
        record = await self._on_files(lambda: self._load("secret", path, SecretRecord))
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
                old = self._load("secret", path, SecretRecord)
                present = 0 if old is None else old.current
                if check_and_set is not None and check_and_set != present:
                    raise Conflict(f"The secret '{path}' was changed by someone else meanwhile.")
                number = present + 1
                kept = {} if old is None else dict(old.versions)
                kept[str(number)] = fields
                kept.pop(str(number - _VERSIONS_KEPT), None)
                self._keep("secret", path, SecretRecord(current=number, versions=kept))
                return number

        return await self._on_files(write)

    async def delete_secret(self, path: str) -> None:
        """Destroy all versions of a secret; one that is not there is fine."""
        await self._on_files(lambda: self._folder.drop(record_name("secret", path)))

    async def encrypt(self, key: str, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt under the newest version of a named key: `cv1:<version>:<base64>`."""
        named = await self._named_key(key)
        nonce = os.urandom(12)
        bound = bound_to(key, named.current, context)
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
            bound = bound_to(key, int(number), context)
            return AESGCM(named.versions[number]).decrypt(raw[:12], raw[12:], bound)
        except (ValueError, binascii.Error, InvalidTag) as fault:
            raise Unavailable("A stored value cannot be opened with the key it names.") from fault

    async def decrypt_many(self, key: str, texts: Sequence[SealedText]) -> tuple[bytes, ...]:
        """Open many texts, in their order.

        Raises:
            Unavailable: one of them cannot be opened.
        """
        return tuple([await self.decrypt(key, each.text, each.context) for each in texts])

    async def hmac(self, key: str, data: bytes) -> str:
        """Return a keyed SHA-256 digest in hex that stays the same when the key is rotated."""
        named = await self._named_key(key)
        return hmaclib.new(named.index_key, data, hashlib.sha256).hexdigest()

    async def rotate(self, key: str) -> int:
        """Give a named key a new version and return its number; older texts still open."""

        def rotate() -> NamedKey:
            with self._folder.locked():
                old = self._load("key", key, NamedKey) or new_named_key()
                number = old.current + 1
                versions = {**old.versions, str(number): secrets.token_bytes(KEY_BYTES)}
                new = NamedKey(current=number, versions=versions, index_key=old.index_key)
                self._keep("key", key, new)
                return new

        return self._remember(key, await self._on_files(rotate)).current

    async def newest_version(self, key: str) -> int:
        """Return the number of the version that encrypts now."""
        return (await self._named_key(key, fresh=True)).current

    async def rewrap(self, key: str, texts: Sequence[SealedText]) -> tuple[str, ...]:
        """Encrypt texts anew under the newest version, bound to the contexts that they had.

        Raises:
            Unavailable: one of them cannot be opened.
        """
        await self._named_key(key, fresh=True)
        opened = await self.decrypt_many(key, texts)
        return tuple(
            [
                await self.encrypt(key, plaintext, each.context)
                for plaintext, each in zip(opened, texts, strict=True)
            ]
        )

    async def retire(self, key: str, below: int) -> None:
        """Destroy the versions below this one.

        Raises:
            Conflict: there is no such version yet.
        """

        def retire() -> NamedKey:
            with self._folder.locked():
                old = self._load("key", key, NamedKey) or new_named_key()
                if below > old.current:
                    raise Conflict("The newest version of a key cannot be retired.")
                kept = {each: value for each, value in old.versions.items() if int(each) >= below}
                new = NamedKey(current=old.current, versions=kept, index_key=old.index_key)
                self._keep("key", key, new)
                return new

        self._remember(key, await self._on_files(retire))

    async def rotate_master(self) -> None:
        """Make a new master key and wrap every record under it."""
        await self._on_files(self._folder.rotate_master)

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's RSA key pair; one that is there is kept."""
        if await self.has_user_key(user_id):
            return
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._makers, new_user_key)

        def keep() -> None:
            with self._folder.locked():
                if not self._folder.has(record_name("user", user_id)):
                    self._keep("user", user_id, made)

        await self._on_files(keep)

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key pair."""
        return await self._on_files(lambda: self._folder.has(record_name("user", user_id)))

    async def has_user_keys(self, user_ids: Collection[str]) -> frozenset[str]:
        """Return those of these people who have a key pair."""
        return await self._on_files(
            lambda: frozenset(
                each for each in user_ids if self._folder.has(record_name("user", each))
            )
        )

    async def count_user_keys(self) -> int:
        """Return how many people have a key pair."""
        return await self._on_files(lambda: self._folder.count("user-"))

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair; what was encrypted for it is lost."""
        await self._on_files(lambda: self._folder.drop(record_name("user", user_id)))

    async def public_key(self, user_id: str) -> bytes:
        """Return a person's public key as PEM.

        Raises:
            NotFound: this person has none.
        """
        record = await self._on_files(lambda: self._load("user", user_id, UserKey))
        if record is None:
            raise NotFound("This person has no key.")
        return record.public_key

    async def state(self) -> str:
        """Say that keys are in files, when the folder can be read."""
        await self._on_files(lambda: self._folder.has(record_name("key", "")))
        return "a folder of encrypted files"

    async def tend(self) -> None:
        """Do nothing: files need no care."""

    async def _named_key(self, name: str, *, fresh: bool = False) -> NamedKey:
        known = self._named.get(name)
        # Another process may have rotated the key since we read it.
        stale = fresh or known is None or monotonic() - known.at > KEY_FRESH_SECONDS
        metrics.count_cache("keys", hits=int(not stale), misses=int(stale))
        if stale or known is None:
            return self._remember(name, await self._on_files(lambda: self._load_or_make(name)))
        return known.key

    def _remember(self, name: str, key: NamedKey) -> NamedKey:
        self._named[name] = _Loaded(key, monotonic())
        return key

    def _load_or_make(self, name: str) -> NamedKey:
        with self._folder.locked():
            named = self._load("key", name, NamedKey)
            if named is None:
                named = new_named_key()
                self._keep("key", name, named)
            return named

    async def _on_files(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def _load(self, kind: str, name: str, shape: type[T]) -> T | None:
        content = self._folder.load(record_name(kind, name))
        return None if content is None else decode(content, shape)

    def _keep(self, kind: str, name: str, record: Wire) -> None:
        self._folder.keep(record_name(kind, name), encode(record))


def version_of(text: str) -> int:
    """Return the version of the key that a sealed text names, of either store; 0 if it names none.

    Both write it second: `cv1:3:…` and `vault:v3:…`.
    """
    number = text.split(":", 2)[1].removeprefix("v") if text.count(":") > 1 else ""
    return int(number) if number.isdecimal() and number.isascii() else 0
