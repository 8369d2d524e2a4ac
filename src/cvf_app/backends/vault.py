"""Secrets and keys in Vault: its KV2 engine and its transit engine, under the configured paths.

Promises: nothing is read or written outside `KV2Prefix` and outside the transit keys whose names
begin with it (`vault_names.py`), so that several instances can share one Vault and one mount. Keys
never leave Vault: none is exportable. Secrets that were read once are remembered for
`SECRET_FRESH_SECONDS`, and while Vault is away for at most `SECRET_BRIDGE_SECONDS` since they were
read. See `vault_session.py` for what becomes of a Vault that does not answer.
"""

import asyncio
import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Self, TypeVar

from cvf_app import config
from cvf_app.backends.keystore import SealedText, Secret
from cvf_app.backends.vault_names import Names
from cvf_app.backends.vault_session import (
    ANSWER_SECONDS,
    THREADS,
    AppRole,
    Missing,
    Refused,
    VaultSession,
)
from cvf_app.errors import Conflict, NotFound, Unavailable, VaultUnavailable

T = TypeVar("T")
SECRET_FRESH_SECONDS = 30.0
SECRET_BRIDGE_SECONDS = 900.0
# A key pair takes Vault two seconds of one core, and more when it is busy.
MAKING_SECONDS = 30.0
_MAKING_AT_ONCE = 2
_MOST_IN_A_CALL = 200
_MOST_REMEMBERED = 256
_USER_KEY_TYPE = "rsa-4096"
_NAMED_KEY_TYPE = "aes256-gcm96"
_WRONG = "Vault does not work with one of our keys; its log says why."
_UNREADABLE = "A stored value cannot be opened with the key it names."


class VaultKeyStore:
    """A key store in Vault; see `KeyStore` for what each method promises."""

    def __init__(
        self,
        session: VaultSession,
        names: Names,
        *,
        transit: str,
        kv2: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Keep things in these engines under these names; use `open`."""
        self._session = session
        self._names = names
        self._transit = transit.strip("/")
        self._kv2 = kv2.strip("/")
        self._clock = clock
        self._read: dict[str, tuple[Secret, float]] = {}
        self._there: set[str] = set()
        # All threads making keys would let every other call wait.
        self._making = asyncio.Semaphore(_MAKING_AT_ONCE)
        # Many questions at once leave a thread free, and each waits for its turn without a clock.
        self._asking = asyncio.Semaphore(THREADS - 1)

    @classmethod
    def open(
        cls,
        given: config.Vault,
        login: AppRole,
        *,
        ca: str = "",
        clock: Callable[[], float] = monotonic,
    ) -> Self:
        """Open the key store; nothing is sent before the first call.

        Raises:
            Invalid: the configuration or the login is missing or wrong.
        """
        names = Names.of(given.kv2_prefix)
        session = VaultSession(given.host, login, ca=ca, clock=clock)
        return cls(session, names, transit=given.transit_path, kv2=given.kv2_path, clock=clock)

    async def read_secret(self, path: str, version: int | None = None) -> Secret:
        """Return the newest version of a secret, or the one asked for."""
        if version is not None:
            return await self._fetch(path, version)
        known = self._read.get(path)
        if known is not None and self._clock() - known[1] < SECRET_FRESH_SECONDS:
            return known[0]
        try:
            found = await self._fetch(path, None)
        except VaultUnavailable:
            if known is not None and self._clock() - known[1] < SECRET_BRIDGE_SECONDS:
                return known[0]
            raise
        except NotFound:
            self._read.pop(path, None)
            raise
        if len(self._read) >= _MOST_REMEMBERED:
            self._read.clear()
        self._read[path] = (found, self._clock())
        return found

    async def write_secret(
        self, path: str, data: Mapping[str, str], check_and_set: int | None = None
    ) -> int:
        """Write a new version and return its number; the engine keeps the newest ten."""
        place, fields = self._names.secret(path), dict(data)
        self._read.pop(path, None)
        try:
            return await self._session.call(
                lambda client: int(
                    client.secrets.kv.v2.create_or_update_secret(
                        path=place, secret=fields, cas=check_and_set, mount_point=self._kv2
                    )["data"]["version"]
                )
            )
        except Refused as fault:
            if "check-and-set" in fault.reason and check_and_set is not None:
                raise Conflict(
                    f"The secret '{path}' was changed by someone else meanwhile."
                ) from None
            raise Unavailable(f"Vault does not take the secret '{path}' in this form.") from None
        finally:
            # Somebody may have read the old one while the new one was on its way.
            self._read.pop(path, None)

    async def delete_secret(self, path: str) -> None:
        """Destroy all versions of a secret; one that is not there is fine."""
        place = self._names.secret(path)
        try:
            await self._session.call(
                lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(
                    path=place, mount_point=self._kv2
                )
            )
        except Missing:
            pass
        finally:
            self._read.pop(path, None)

    async def encrypt(self, key: str, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt under the newest version of a named key: `vault:v<version>:<base64>`."""
        return (await self._encrypt(key, [(plaintext, context)]))[0]

    async def decrypt(self, key: str, ciphertext: str, context: bytes = b"") -> bytes:
        """Open what `encrypt` made, under any version of the key that is not retired."""
        return (await self.decrypt_many(key, (SealedText(ciphertext, context),)))[0]

    async def decrypt_many(self, key: str, texts: Sequence[SealedText]) -> tuple[bytes, ...]:
        """Open many texts, in their order, two hundred in a call."""
        name = self._names.key(key)
        items = [{"ciphertext": each.text, **_bound(each.context)} for each in texts]
        opened = await self._batches(
            items,
            lambda batch, client: client.secrets.transit.decrypt_data(
                name=name, batch_input=batch, mount_point=self._transit
            )["data"]["batch_results"],
            _UNREADABLE,
        )
        return tuple(base64.b64decode(each["plaintext"]) for each in opened)

    async def hmac(self, key: str, data: bytes) -> str:
        """Return a keyed SHA-256 digest in hex that stays the same when the key is rotated."""
        name, given = self._names.index(key), _text(data)
        digest: str = await self._using(
            name,
            lambda client: client.secrets.transit.generate_hmac(
                name=name,
                hash_input=given,
                # Pinned: should somebody rotate this key by hand, people are still found.
                key_version=1,
                algorithm="sha2-256",
                mount_point=self._transit,
            )["data"]["hmac"],
        )
        return base64.b64decode(digest.rpartition(":")[2]).hex()

    async def rotate(self, key: str) -> int:
        """Give a named key a new version and return its number; older texts still open."""
        name = self._names.key(key)
        await self._using(
            name,
            lambda client: client.secrets.transit.rotate_key(name=name, mount_point=self._transit),
        )
        return await self.newest_version(key)

    async def newest_version(self, key: str) -> int:
        """Return the number of the version that encrypts now."""
        name = self._names.key(key)
        return await self._using(
            name,
            lambda client: int(
                client.secrets.transit.read_key(name=name, mount_point=self._transit)["data"][
                    "latest_version"
                ]
            ),
        )

    async def rewrap(self, key: str, texts: Sequence[SealedText]) -> tuple[str, ...]:
        """Encrypt texts anew under the newest version, bound to the contexts that they had.

        Opened and sealed again through us, since transit's own `rewrap` takes no associated data.
        """
        opened = await self.decrypt_many(key, texts)
        contexts = [each.context for each in texts]
        return tuple(await self._encrypt(key, list(zip(opened, contexts, strict=True))))

    async def retire(self, key: str, below: int) -> None:
        """Open no text any more whose version is below this one; Vault's owner can undo this."""
        name = self._names.key(key)
        if below > await self.newest_version(key):
            raise Conflict("The newest version of a key cannot be retired.")
        await self._using(
            name,
            lambda client: client.secrets.transit.update_key_configuration(
                name=name, min_decryption_version=below, mount_point=self._transit
            ),
        )

    async def create_user_key(self, user_id: str) -> None:
        """Make a person's RSA key pair; one that is there is kept."""
        name = self._names.person(user_id)
        # While somebody else makes this very key, Vault lets whoever asks for it wait: in here, so
        # that those who wait do not take all threads.
        async with self._making:
            if not await self._has(name, seconds=MAKING_SECONDS):
                await self._make(name, _USER_KEY_TYPE)

    async def has_user_key(self, user_id: str) -> bool:
        """Say whether a person has a key pair."""
        return await self._has(self._names.person(user_id))

    async def count_user_keys(self) -> None:
        """Return none: a list of keys would be of every instance on the mount, and is denied us."""

    async def has_user_keys(self, user_ids: Collection[str]) -> frozenset[str]:
        """Return those of these people who have a key pair, asked for side by side.

        A list of all keys would be one call, but of every instance on the mount.
        """
        asked = list(user_ids)
        found: list[str] = []
        for start in range(0, len(asked), _MOST_IN_A_CALL):
            part = asked[start : start + _MOST_IN_A_CALL]
            answers = await asyncio.gather(*map(self._has_in_turn, part))
            found += [each for each, has in zip(part, answers, strict=True) if has]
        return frozenset(found)

    async def delete_user_key(self, user_id: str) -> None:
        """Destroy a person's key pair, if there is one; what was encrypted for it is lost."""
        name = self._names.person(user_id)
        if not await self._has(name):
            return
        try:
            await self._session.call(
                lambda client: client.secrets.transit.update_key_configuration(
                    name=name, deletion_allowed=True, mount_point=self._transit
                )
            )
            await self._session.call(
                lambda client: client.secrets.transit.delete_key(
                    name=name, mount_point=self._transit
                )
            )
        except (Missing, Refused):
            # Somebody else deletes it at the same time; if not, it is still there.
            if await self._has(name):
                raise Unavailable("Vault does not delete this person's key.") from None

    async def public_key(self, user_id: str) -> bytes:
        """Return a person's public key as PEM."""
        try:
            found = await self._describe(self._names.person(user_id))
        except Missing:
            raise NotFound("This person has no key.") from None
        return str(found["keys"][str(found["latest_version"])]["public_key"]).encode()

    async def state(self) -> str:
        """Say which Vault keeps the keys, when it lets us in."""
        await self._session.call(lambda client: client.auth.token.lookup_self())
        return f"Vault {await self._session.version()}"

    async def tend(self) -> None:
        """Prolong our login at Vault when it is time."""
        await self._session.prolong()

    async def close(self) -> None:
        """Give our login back, forget what was read, let go of threads and connections."""
        self._read.clear()
        await self._session.close()

    async def _fetch(self, path: str, version: int | None) -> Secret:
        place = self._names.secret(path)
        try:
            found = await self._session.call(
                lambda client: client.secrets.kv.v2.read_secret_version(
                    path=place,
                    version=version,
                    mount_point=self._kv2,
                    raise_on_deleted_version=True,
                )["data"]
            )
        except Missing:
            raise NotFound(f"The key store has no secret '{path}' of this version.") from None
        fields = {str(name): str(value) for name, value in found["data"].items()}
        return Secret(data=fields, version=int(found["metadata"]["version"]))

    async def _encrypt(self, key: str, given: Sequence[tuple[bytes, bytes]]) -> list[str]:
        name = self._names.key(key)
        await self._ensure(name)
        sealed = await self._batches(
            [{"plaintext": _text(plain), **_bound(context)} for plain, context in given],
            lambda batch, client: client.secrets.transit.encrypt_data(
                name=name, batch_input=batch, mount_point=self._transit
            )["data"]["batch_results"],
            _WRONG,
        )
        return [str(each["ciphertext"]) for each in sealed]

    async def _batches(
        self,
        items: list[dict[str, str]],
        ask: Callable[[list[dict[str, str]], Any], Any],
        refusal: str,
    ) -> list[dict[str, str]]:
        results: list[dict[str, str]] = []
        for start in range(0, len(items), _MOST_IN_A_CALL):
            batch = items[start : start + _MOST_IN_A_CALL]
            try:
                part = await self._session.call(partial(ask, batch))
            except Refused:
                raise Unavailable(refusal) from None
            if any(each.get("error") for each in part):
                raise Unavailable(refusal)
            results += part
        return results

    async def _using(self, name: str, work: Callable[[Any], T]) -> T:
        """Do something with a named key, which is made when it is not there."""
        await self._ensure(name)
        try:
            return await self._session.call(work)
        except (Missing, Refused):
            self._there.discard(name)
            raise Unavailable(_WRONG) from None

    async def _ensure(self, name: str) -> None:
        """Make a key that is not there; with our rights Vault would not make it by itself."""
        if name in self._there:
            return
        if not await self._has(name):
            async with self._making:
                await self._make(name, _NAMED_KEY_TYPE)
        self._there.add(name)

    async def _make(self, name: str, kind: str) -> None:
        await self._session.call(
            lambda client: client.secrets.transit.create_key(
                name=name, key_type=kind, mount_point=self._transit
            ),
            seconds=MAKING_SECONDS,
        )

    async def _has_in_turn(self, user_id: str) -> bool:
        async with self._asking:
            return await self.has_user_key(user_id)

    async def _has(self, name: str, *, seconds: float = ANSWER_SECONDS) -> bool:
        try:
            await self._describe(name, seconds=seconds)
        except Missing:
            return False
        return True

    async def _describe(self, name: str, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        described: dict[str, Any] = await self._session.call(
            lambda client: client.secrets.transit.read_key(name=name, mount_point=self._transit)[
                "data"
            ],
            seconds=seconds,
        )
        return described


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bound(context: bytes) -> dict[str, str]:
    """Bind a text to its context as associated data (transit, `associated_data`)."""
    return {"associated_data": _text(context)} if context else {}
