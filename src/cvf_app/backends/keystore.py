"""Secrets and keys: what the instance asks of a key store, and one kept in a folder of files.

`KeyStore` is what Vault's KV2 and transit engines give, in our words: versioned secrets with
check-and-set, named keys that encrypt, and one key pair per person. `FileKeyStore` serves it
without a server. Its promises: every record is AES-256-GCM under the master key, bound to its
kind and name, so that files cannot be swapped; a write is whole or not there after a crash;
files and folders that others may read are refused; several processes may share one folder.
"""

import asyncio
import base64
import binascii
import fcntl
import hashlib
import hmac as hmaclib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cvf_app.errors import Conflict, NotFound, StorageFull, Unavailable
from cvf_app.wire import Wire, decode, encode

T = TypeVar("T")

_MAGIC = b"CVK1"
_HEADER = len(_MAGIC) + 4 + 12
_KEY_BYTES = 32
_VERSIONS_KEPT = 10
_USER_KEY_BITS = 4096
_FULL = (28, 122)  # ENOSPC, EDQUOT


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
    """A key store in a folder: `master.key` beside `records/`, one encrypted file a record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = folder / "records"
        self._master = folder / "master.key"
        self._named: dict[str, _NamedKey] = {}
        self._files = ThreadPoolExecutor(2, thread_name_prefix="keystore")
        # An RSA key takes a second of one core; reads must not wait behind it.
        self._makers = ThreadPoolExecutor(4, thread_name_prefix="key-maker")

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Self:
        """Open a key store; with `create`, a new one is made in an empty or missing folder.

        Raises:
            Unavailable: there is none, others may read it, or its master key is missing.
        """
        store = cls(folder)
        if create:
            _make_folder(folder)
            _make_folder(store._records)
            with store._locked():
                if not store._master.exists() and not any(store._records.iterdir()):
                    _write(store._master, _master_text({1: secrets.token_bytes(_KEY_BYTES)}))
        _check_private(folder, "folder")
        _check_private(store._records, "folder")
        with store._locked():
            for left_over in folder.rglob("*.tmp"):
                left_over.unlink()
            if len(store._master_keys()) > 1:
                store._finish_master_rotation()
        return store

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
            with self._locked():
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
        await self._on_files(lambda: self._drop("secret", path))

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
        try:
            if mark != "cv1" or number not in named.versions:
                raise ValueError("no such version")
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
            with self._locked():
                old = self._load("key", key, _NamedKey) or _new_named_key()
                number = old.current + 1
                versions = {**old.versions, str(number): secrets.token_bytes(_KEY_BYTES)}
                new = _NamedKey(current=number, versions=versions, index_key=old.index_key)
                self._keep("key", key, new)
                return new

        self._named[key] = await self._on_files(rotate)
        return self._named[key].current

    async def rotate_master(self) -> None:
        """Make a new master key and wrap every record under it.

        The new key stands beside the old one until the last record is wrapped; `open`
        finishes a rotation that was cut off.
        """

        def rotate() -> None:
            with self._locked():
                keys = self._master_keys()
                keys[max(keys) + 1] = secrets.token_bytes(_KEY_BYTES)
                _write(self._master, _master_text(keys))
                self._finish_master_rotation()

        await self._on_files(rotate)

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's RSA key pair; one that is there is kept."""
        if await self.has_user_key(user_id):
            return
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._makers, _new_user_key)

        def keep() -> None:
            with self._locked():
                if not self._file("user", user_id).exists():
                    self._keep("user", user_id, made)

        await self._on_files(keep)

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key pair."""
        return await self._on_files(self._file("user", user_id).exists)

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair; what was encrypted for it is lost."""
        await self._on_files(lambda: self._drop("user", user_id))

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
        with self._locked():
            named = self._load("key", name, _NamedKey)
            if named is None:
                named = _new_named_key()
                self._keep("key", name, named)
            return named

    async def _on_files(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def _file(self, kind: str, name: str) -> Path:
        # A digest, so that no name can leave the folder or meet another in letter case.
        digest = hashlib.sha256(f"{kind}\0{name}".encode()).hexdigest()
        return self._records / f"{kind}-{digest}"

    def _load(self, kind: str, name: str, shape: type[T]) -> T | None:
        file = self._file(kind, name)
        for _ in range(2):
            # The master key is read first; a rotation may fall between the two reads.
            keys = self._master_keys()
            try:
                sealed = _read(file)
            except FileNotFoundError:
                return None
            if _master_version(sealed) in keys:
                return decode(_unwrap(sealed, keys, file.name), shape)
        raise Unavailable("A record of the key store is wrapped under a master key that is gone.")

    def _keep(self, kind: str, name: str, record: Wire) -> None:
        file = self._file(kind, name)
        _write(file, _wrap(encode(record), self._master_keys(), file.name))

    def _drop(self, kind: str, name: str) -> None:
        with self._locked():
            self._file(kind, name).unlink(missing_ok=True)
            _sync_folder(self._records)

    def _master_keys(self) -> dict[int, bytes]:
        try:
            lines = _read(self._master).decode().split("\n")
            pairs = [line.split(" ") for line in lines if line]
            keys = {int(number): base64.b64decode(text, validate=True) for number, text in pairs}
        except FileNotFoundError as fault:
            raise Unavailable(f"The key store at {self._folder} has no master key.") from fault
        except ValueError as fault:
            raise Unavailable(f"The master key at {self._master} cannot be read.") from fault
        if not keys or any(len(key) != _KEY_BYTES for key in keys.values()):
            raise Unavailable(f"The master key at {self._master} is not whole.")
        return keys

    def _finish_master_rotation(self) -> None:
        keys = self._master_keys()
        newest = max(keys)
        for file in sorted(self._records.iterdir()):
            sealed = _read(file)
            if _master_version(sealed) != newest:
                _write(file, _wrap(_unwrap(sealed, keys, file.name), keys, file.name))
        _write(self._master, _master_text({newest: keys[newest]}))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads and processes from writing; the lock dies with its holder."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(self._folder / "lock", flags, 0o600)
        except OSError as fault:
            raise Unavailable(
                f"There is no key store that we can use at {self._folder}."
            ) from fault
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


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


def _master_text(keys: Mapping[int, bytes]) -> bytes:
    lines = [f"{number} {base64.b64encode(key).decode()}\n" for number, key in keys.items()]
    return "".join(lines).encode()


def _wrap(plaintext: bytes, keys: Mapping[int, bytes], name: str) -> bytes:
    newest = max(keys)
    header = _MAGIC + newest.to_bytes(4, "big")
    nonce = os.urandom(12)
    return header + nonce + AESGCM(keys[newest]).encrypt(nonce, plaintext, header + name.encode())


def _master_version(sealed: bytes) -> int:
    if not sealed.startswith(_MAGIC) or len(sealed) < _HEADER:
        raise Unavailable("A record of the key store is not whole.")
    return int.from_bytes(sealed[4:8], "big")


def _unwrap(sealed: bytes, keys: Mapping[int, bytes], name: str) -> bytes:
    version = _master_version(sealed)
    try:
        bound = sealed[:8] + name.encode()
        return AESGCM(keys[version]).decrypt(sealed[8:_HEADER], sealed[_HEADER:], bound)
    except (KeyError, InvalidTag) as fault:
        raise Unavailable("A record of the key store was changed from outside.") from fault


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _check_private(place: Path, what: str) -> None:
    try:
        found = place.lstat()
    except FileNotFoundError as fault:
        raise Unavailable(f"There is no key store at {place}.") from fault
    _check_mode(found, place, what)


def _check_mode(found: os.stat_result, place: Path, what: str) -> None:
    if found.st_mode & 0o077 or found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
        raise Unavailable(
            f"The key store's {what} {place} may be read by others; "
            f"it must be its user's own, without rights for group and others."
        )


def _read(file: Path) -> bytes:
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        _check_mode(os.fstat(stream.fileno()), file, "file")
        return stream.read()


def _write(file: Path, content: bytes) -> None:
    """Put the content beside the file, make it durable, then let it take the file's place."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
        _sync_folder(file.parent)
    except OSError as fault:
        draft.unlink(missing_ok=True)
        if fault.errno in _FULL:
            raise StorageFull("There is no room left to keep a key.") from fault
        raise Unavailable("The key store's folder cannot be written to.") from fault


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
