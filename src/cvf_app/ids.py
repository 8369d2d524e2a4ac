"""Ids that more than one feature speaks of, each a type of its own against mix-ups."""

from typing import NewType
from uuid import uuid4

NetworkId = NewType("NetworkId", str)
NodeId = NewType("NodeId", str)
SourceId = NewType("SourceId", str)


def new_id() -> str:
    """Return a new random id (UUID version 4)."""
    return str(uuid4())
