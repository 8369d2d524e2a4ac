"""A key store around Vault whose answers are remembered, so that sessions go on while it is away.

Promises: each question goes to the key store every time; only if that is `VaultUnavailable`, what
it said to this process is said again, for at most `BRIDGE` since it said so. Remembered are: that
somebody has a key (never that somebody has none), blind indices, and what was opened. Nothing that
changes anything is bridged. All of it is in the memory of one process, and at most `MOST` each.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from cvf_app.backends.keystore import KeyStore, SealedText, Secret
from cvf_app.clock import Clock
from cvf_app.errors import VaultUnavailable

Q = TypeVar("Q")
A = TypeVar("A")
BRIDGE = timedelta(minutes=15)
MOST = 10_000


class Bridge:
    """A key store as logged-in people need it; see `KeyStore` for what each method promises."""

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        """Ask this key store."""
        self._keys = keys
        self._digests: _Answers[tuple[str, bytes], str] = _Answers(clock)
        self._holders: _Answers[str, None] = _Answers(clock)
        self._opened: _Answers[tuple[str, SealedText], bytes] = _Answers(clock)

    async def hmac(self, key: str, data: bytes) -> str:
        """Return a keyed digest, or the one that was returned before."""
        try:
            return self._digests.keep((key, data), await self._keys.hmac(key, data))
        except VaultUnavailable as fault:
            return self._digests.again((key, data), fault)

    async def decrypt(self, key: str, ciphertext: str, context: bytes = b"") -> bytes:
        """Open a text, or return what it was before."""
        return (await self.decrypt_many(key, (SealedText(ciphertext, context),)))[0]

    async def decrypt_many(self, key: str, texts: Sequence[SealedText]) -> tuple[bytes, ...]:
        """Open many texts, or return what they were before."""
        try:
            opened = await self._keys.decrypt_many(key, texts)
        except VaultUnavailable as fault:
            return tuple([self._opened.again((key, each), fault) for each in texts])
        for text, plaintext in zip(texts, opened, strict=True):
            self._opened.keep((key, text), plaintext)
        return opened

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key, or had one a while ago."""
        return user_id in await self.has_user_keys((user_id,))

    async def has_user_keys(self, user_ids: Collection[str]) -> frozenset[str]:
        """Return those of these people who have a key, or had one a while ago."""
        try:
            found = await self._keys.has_user_keys(user_ids)
        except VaultUnavailable as fault:
            for each in user_ids:
                self._holders.again(each, fault)
            return frozenset(user_ids)
        for each in user_ids:
            if each in found:
                self._holders.keep(each, None)
            else:
                self._holders.drop(each)
        return found

    async def count_user_keys(self) -> int | None:
        """Return how many people have a key; none where the store cannot tell."""
        return await self._keys.count_user_keys()

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's key pair."""
        await self._keys.create_user_key(user_id)

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair."""
        self._holders.drop(user_id)
        await self._keys.delete_user_key(user_id)
        # Somebody may have asked meanwhile.
        self._holders.drop(user_id)

    async def public_key(self, user_id: str) -> bytes:
        """Return a person's public key as PEM."""
        return await self._keys.public_key(user_id)

    async def encrypt(self, key: str, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt."""
        return await self._keys.encrypt(key, plaintext, context)

    async def rotate(self, key: str) -> int:
        """Give a named key a new version."""
        return await self._keys.rotate(key)

    async def newest_version(self, key: str) -> int:
        """Return the number of the version that encrypts now."""
        return await self._keys.newest_version(key)

    async def rewrap(self, key: str, texts: Sequence[SealedText]) -> tuple[str, ...]:
        """Encrypt texts anew."""
        return await self._keys.rewrap(key, texts)

    async def retire(self, key: str, below: int) -> None:
        """Open no text of an older version any more."""
        await self._keys.retire(key, below)

    async def read_secret(self, path: str, version: int | None = None) -> Secret:
        """Return a secret; the store itself remembers those."""
        return await self._keys.read_secret(path, version)

    async def write_secret(
        self, path: str, data: Mapping[str, str], check_and_set: int | None = None
    ) -> int:
        """Write a new version of a secret."""
        return await self._keys.write_secret(path, data, check_and_set)

    async def delete_secret(self, path: str) -> None:
        """Destroy a secret."""
        await self._keys.delete_secret(path)

    async def state(self) -> str:
        """Say what keeps the keys."""
        return await self._keys.state()

    async def tend(self) -> None:
        """Do what must be done now and then."""
        await self._keys.tend()

    async def close(self) -> None:
        """Forget everything; whoever opened the key store closes it."""
        for answers in (self._digests, self._holders, self._opened):
            answers.clear()


class _Answers(Generic[Q, A]):
    """Answers by question, each with the moment when it was given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._given: dict[Q, tuple[A, datetime]] = {}

    def keep(self, question: Q, answer: A) -> A:
        if len(self._given) >= MOST and question not in self._given:
            self._given.clear()
        self._given[question] = (answer, self._clock())
        return answer

    def again(self, question: Q, fault: VaultUnavailable) -> A:
        found = self._given.get(question)
        if found is None or self._clock() - found[1] > BRIDGE:
            self._given.pop(question, None)
            raise fault
        return found[0]

    def drop(self, question: Q) -> None:
        self._given.pop(question, None)

    def clear(self) -> None:
        self._given.clear()
