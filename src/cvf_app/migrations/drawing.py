"""What the stores declare, found out by letting them prepare a database that is only drawn.

So an index has one place, the `INDICES` beside the store that needs it, and nobody keeps a second
list in step.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

from cvf_app.backends.mongo import Collection, Index, Mongo
from cvf_app.migrations.model import OWN, Declared
from cvf_app.migrations.shapes import SHAPES

NOWHERE = "mongodb://127.0.0.1:1"


class Prepared(Protocol):
    """A store that says which indices it needs."""

    async def prepare(self) -> None:
        """Make them."""
        ...


class Drawing(Mongo):
    """A database without a server (open it `NOWHERE`): it notes which indices are asked for."""

    def collection(self, name: str) -> Collection:
        """Return a collection whose indices are only noted."""
        noting = _Noting(self._database[name])
        # Opened twice it is one collection still.
        noting.noted = self.drawn.setdefault(name, noting.noted)
        return noting

    @cached_property
    def drawn(self) -> dict[str, set[Index]]:
        """The indices of each collection that was opened."""
        return {}


class _Noting(Collection):
    """A collection that notes the indices it is asked to make."""

    @cached_property
    def noted(self) -> set[Index]:
        """What was asked for."""
        return set()

    async def create_indices(self, indices: Sequence[Index]) -> None:
        """Note them."""
        self.noted.update(indices)


async def declared(drawing: Drawing, stores: Iterable[Prepared]) -> Mapping[str, Declared]:
    """Return what stores that were made upon a drawing declare, with the shapes of documents."""
    for store in stores:
        await store.prepare()
    return {
        name: Declared(frozenset(indices), SHAPES.get(name))
        for name, indices in sorted(drawing.drawn.items())
        if name not in OWN
    }
