"""Settings in MongoDB: one document for each part of the instance's, and one for each person's."""

from collections.abc import Mapping
from typing import Any

from cvf_app.backends.mongo import Mongo
from cvf_app.errors import Conflict
from cvf_app.principal import UserId

COLLECTION = "settings"
OF_USERS = "user_settings"


class SettingsStore:
    """The two collections of settings; values are the published shapes."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep settings in this database."""
        self._parts = mongo.collection(COLLECTION)
        self._of_users = mongo.collection(OF_USERS)

    async def read(self) -> dict[str, Any]:
        """Return every part by its name."""
        return {found["_id"]: found["value"] for found in await self._parts.find({})}

    async def write(self, part: str, value: object) -> None:
        """Put a value in place of a part."""
        # Twice: two processes may both find no document, and the second one's insert fails.
        for _ in range(2):
            try:
                await self._parts.replace({"_id": part}, {"_id": part, "value": value}, upsert=True)
            except Conflict:
                continue
            return

    async def of_user(self, user_id: UserId) -> dict[str, Any]:
        """Return what somebody has set, or nothing."""
        found = await self._of_users.find_one({"_id": user_id})
        return {} if found is None else dict(found["value"])

    async def merge_of_user(self, user_id: UserId, parts: Mapping[str, object]) -> None:
        """Put these parts in place of what somebody has set of them; others stay."""
        change = {"$set": {f"value.{name}": value for name, value in parts.items()}}
        for _ in range(2):
            try:
                await self._of_users.update_one({"_id": user_id}, change, upsert=True)
            except Conflict:
                continue
            return

    async def forget_user(self, user_id: UserId) -> None:
        """Remove what somebody has set, as when they are deleted; safe to repeat."""
        await self._of_users.delete_one({"_id": user_id})
