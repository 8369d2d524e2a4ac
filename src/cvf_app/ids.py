"""Ids that more than one feature speaks of, each a type of its own against mix-ups."""

from typing import NewType
from uuid import UUID, uuid4, uuid5

NetworkId = NewType("NetworkId", str)
NodeId = NewType("NodeId", str)
SourceId = NewType("SourceId", str)
_OURS = UUID("6f2c9a5e-58f1-4f0e-9d0b-6b7f7b1d3c55")


def new_id() -> str:
    """Return a new random id (UUID version 4)."""
    return str(uuid4())


def id_of(*parts: str) -> str:
    """Return the same id for the same parts (UUID version 5)."""
    return str(uuid5(_OURS, "/".join(f"{len(part)}:{part}" for part in parts)))
