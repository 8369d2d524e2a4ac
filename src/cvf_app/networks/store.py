"""The `installation` document: the one id that this instance was given when it first started.

It is made once and never changed; of two processes that start together the second finds
the first one's document.
"""

from contextlib import suppress

from cvf_app.backends.mongo import Mongo
from cvf_app.errors import Conflict, Unavailable
from cvf_app.ids import NodeId, new_id

COLLECTION = "installation"
_ONLY = "installation"


class NetworkStore:
    """The installation's document in MongoDB."""

    def __init__(self, mongo: Mongo) -> None:
        """Keep the document in this database."""
        self._installation = mongo.collection(COLLECTION)

    async def installation_id(self) -> NodeId:
        """Return the id of this installation, making it the first time."""
        found = await self._installation.find_one({"_id": _ONLY})
        if found is None:
            with suppress(Conflict):  # another process was first: its id is ours
                await self._installation.insert({"_id": _ONLY, "installationId": new_id()})
            found = await self._installation.find_one({"_id": _ONLY})
        if found is None:
            raise Unavailable("The database does not keep what it is given.")
        return NodeId(str(found["installationId"]))
