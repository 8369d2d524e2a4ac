"""What the files of the file key store hold: secrets, named keys and key pairs; and their names."""

import hashlib
import secrets

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cvf_app.wire import Wire

KEY_BYTES = 32
USER_KEY_BITS = 4096


class SecretRecord(Wire, frozen=True, kw_only=True):
    """The kept versions of a secret, and the number of the newest."""

    current: int
    versions: dict[str, dict[str, str]]


class NamedKey(Wire, frozen=True, kw_only=True):
    """A named key: its versions, and the key of its digests, which is never rotated."""

    current: int
    versions: dict[str, bytes]
    index_key: bytes


class UserKey(Wire, frozen=True, kw_only=True):
    """A person's key pair."""

    private_key: bytes
    public_key: bytes


def record_name(kind: str, name: str) -> str:
    """Return the name of a record's file."""
    # A digest, so that no name can leave the folder or meet another in letter case.
    return f"{kind}-{hashlib.sha256(f'{kind}/{name}'.encode()).hexdigest()}"


def new_named_key() -> NamedKey:
    """Make a named key with one version."""
    return NamedKey(
        current=1,
        versions={"1": secrets.token_bytes(KEY_BYTES)},
        index_key=secrets.token_bytes(KEY_BYTES),
    )


def new_user_key() -> UserKey:
    """Make a key pair; it takes up to a second of one core."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=USER_KEY_BITS)
    return UserKey(
        private_key=made.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        public_key=made.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def bound_to(key: str, version: int, context: bytes) -> bytes:
    """Return what a text is bound to: the key, its version and the context."""
    return b"\0".join((b"cv1", key.encode(), str(version).encode(), context))
