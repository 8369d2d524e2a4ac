"""A private folder of encrypted records: the files under the file key store.

Promises: every record is AES-256-GCM under the newest master key and bound to its name, so that
files cannot be swapped; a write is whole or not there after a crash; files and folders that
others may read are refused; writers of several processes wait for each other.
"""

import base64
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cvf_app.errors import StorageFull, Unavailable

_MAGIC = b"CVK1"
_MARK = len(_MAGIC) + 4
_HEADER = _MARK + 12
_KEY_BYTES = 32
_FULL = (28, 122)  # ENOSPC, EDQUOT


class SealedFolder:
    """`master.key` beside `records/`: one encrypted file a record, mode 0600 in folders of 0700."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        """Open the folder; with `create`, a new one is made where it is missing or empty.

        Raises:
            Unavailable: there is none, others may read it, or its master key is missing.
        """
        self._folder = folder
        self._records = folder / "records"
        self._master = folder / "master.key"
        if create:
            _make_folder(folder)
            _make_folder(self._records)
        _check_private(folder)
        _check_private(self._records)
        with self.locked():
            # Never a new master key over old records: they would be lost without a word.
            if create and not self._master.exists() and not any(self._records.iterdir()):
                _write(self._master, _master_text({1: secrets.token_bytes(_KEY_BYTES)}))
            for left_over in folder.rglob("*.tmp"):
                left_over.unlink()
            if len(self._master_keys()) > 1:
                self._finish_rotation()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other threads and processes from writing; the lock dies with its holder."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(self._folder / "lock", flags, 0o600)
        except OSError as fault:
            raise Unavailable(f"The key store at {self._folder} cannot be used.") from fault
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def has(self, name: str) -> bool:
        """Say whether there is a record of this name."""
        return (self._records / name).exists()

    def count(self, prefix: str) -> int:
        """Return how many records have a name that begins so."""
        return sum(1 for file in self._records.iterdir() if file.name.startswith(prefix))

    def load(self, name: str) -> bytes | None:
        """Return a record's content, or none.

        Raises:
            Unavailable: it was changed, swapped, or others may read it.
        """
        for _ in range(2):
            # The master key is read first; a rotation may fall between the two reads.
            keys = self._master_keys()
            try:
                sealed = _read(self._records / name)
            except FileNotFoundError:
                return None
            if _master_version(sealed) in keys:
                return _unwrap(sealed, keys, name)
        raise Unavailable("A record of the key store is wrapped under a master key that is gone.")

    def keep(self, name: str, content: bytes) -> None:
        """Write a record; call it under `locked`."""
        _write(self._records / name, _wrap(content, self._master_keys(), name))

    def drop(self, name: str) -> None:
        """Destroy a record; one that is not there is fine."""
        with self.locked():
            (self._records / name).unlink(missing_ok=True)
            _sync(self._records)

    def rotate_master(self) -> None:
        """Make a new master key and wrap every record under it.

        The new key stands beside the old one until the last record is wrapped; the next
        opening finishes a rotation that was cut off.
        """
        with self.locked():
            keys = self._master_keys()
            keys[max(keys) + 1] = secrets.token_bytes(_KEY_BYTES)
            _write(self._master, _master_text(keys))
            self._finish_rotation()

    def _finish_rotation(self) -> None:
        keys = self._master_keys()
        newest = max(keys)
        for file in sorted(self._records.iterdir()):
            sealed = _read(file)
            if _master_version(sealed) != newest:
                _write(file, _wrap(_unwrap(sealed, keys, file.name), keys, file.name))
        _write(self._master, _master_text({newest: keys[newest]}))

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


def _master_text(keys: Mapping[int, bytes]) -> bytes:
    lines = [f"{number} {base64.b64encode(key).decode()}\n" for number, key in keys.items()]
    return "".join(lines).encode()


def _wrap(plaintext: bytes, keys: Mapping[int, bytes], name: str) -> bytes:
    newest = max(keys)
    mark = _MAGIC + newest.to_bytes(4, "big")
    nonce = os.urandom(12)
    return mark + nonce + AESGCM(keys[newest]).encrypt(nonce, plaintext, mark + name.encode())


def _master_version(sealed: bytes) -> int:
    if not sealed.startswith(_MAGIC) or len(sealed) < _HEADER:
        raise Unavailable("A record of the key store is not whole.")
    return int.from_bytes(sealed[len(_MAGIC) : _MARK], "big")


def _unwrap(sealed: bytes, keys: Mapping[int, bytes], name: str) -> bytes:
    version = _master_version(sealed)
    try:
        cipher = AESGCM(keys[version])
        return cipher.decrypt(
            sealed[_MARK:_HEADER], sealed[_HEADER:], sealed[:_MARK] + name.encode()
        )
    except (KeyError, InvalidTag) as fault:
        raise Unavailable("A record of the key store was changed from outside.") from fault


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise Unavailable(f"The key store's folder {folder} cannot be made.") from fault


def _check_private(folder: Path) -> None:
    try:
        _check_mode(folder.lstat(), folder)
    except FileNotFoundError as fault:
        raise Unavailable(f"There is no key store at {folder}.") from fault


def _check_mode(found: os.stat_result, place: Path) -> None:
    if found.st_mode & 0o077 or found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
        raise Unavailable(
            f"Others may read {place} of the key store; it must belong to its user alone, "
            f"without rights for group and others."
        )


def _read(file: Path) -> bytes:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise Unavailable(f"The key store's file {file} cannot be read.") from fault
    with os.fdopen(handle, "rb") as stream:
        _check_mode(os.fstat(stream.fileno()), file)
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
        _sync(file.parent)
    except OSError as fault:
        draft.unlink(missing_ok=True)
        if fault.errno in _FULL:
            raise StorageFull("There is no room left to keep a key.") from fault
        raise Unavailable("The key store's folder cannot be written to.") from fault


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
