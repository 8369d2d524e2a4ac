"""Who somebody is, sealed: only the key store opens it, and it opens for its own user alone.

What must be looked up (login name, subject at the provider) has a keyed digest beside it, which
stays the same when keys are rotated.
"""

from collections.abc import Mapping

from cvf_app.backends.keystore import KeyStore, SealedText
from cvf_app.principal import UserId
from cvf_app.wire import Wire, decode, encode

PERSON_KEY = "users"


class Person(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What is sealed in a user's document."""

    username: str
    subject: str
    email: str
    first_name: str
    last_name: str
    affiliation: str


class Sealing:
    """Sealing and opening of persons with the instance's key."""

    def __init__(self, keys: KeyStore) -> None:
        """Seal by this key store."""
        self._keys = keys

    async def seal(self, user_id: UserId, person: Person) -> str:
        """Return a person sealed for one user."""
        return await self._keys.encrypt(PERSON_KEY, encode(person), user_id.encode())

    async def open(self, user_id: UserId, sealed: str) -> Person:
        """Return the person sealed for this user.

        Raises:
            Unavailable: it was sealed for another one, or was changed.
        """
        return decode(await self._keys.decrypt(PERSON_KEY, sealed, user_id.encode()), Person)

    async def open_many(self, sealed: Mapping[UserId, str]) -> dict[UserId, Person]:
        """Return the persons sealed for these users, in as few calls as there can be.

        Raises:
            Unavailable: one was sealed for another one, or was changed.
        """
        texts = [SealedText(text, user_id.encode()) for user_id, text in sealed.items()]
        opened = await self._keys.decrypt_many(PERSON_KEY, texts)
        return {each: decode(text, Person) for each, text in zip(sealed, opened, strict=True)}

    async def username_index(self, username: str) -> str:
        """Return the digest of a login name; letter case does not count."""
        return await self._keys.hmac(PERSON_KEY, f"username:{username.casefold()}".encode())

    async def subject_index(self, subject: str) -> str:
        """Return the digest of a provider's lasting name of a person."""
        return await self._keys.hmac(PERSON_KEY, f"subject:{subject}".encode())
