"""The keys of a segment's one sorted table: what can be looked up, as sorting bytes.

A key is a letter for its kind, an escaped name, and a value. The name is escaped so
that no text, also one that holds a null character, can be taken for another, and so
that all keys of one name stand together.
"""

from enum import Enum

_END = b"\x00\x01"


class Kind(bytes, Enum):
    """What a key leads to."""

    AGES = b"A"
    HAS_ALLELES = b"G"
    ALLELE = b"L"
    NUMBERS = b"N"
    FIELD = b"P"
    TRUTH = b"T"
    VARIANTS = b"V"
    HAS_ATTRIBUTE = b"W"
    TEXT = b"X"


def prefix(kind: Kind, name: str) -> bytes:
    """Return what all keys of this kind and name begin with, and no others."""
    return kind.value + name.encode().replace(b"\x00", b"\x00\xff") + _END


def key(kind: Kind, name: str, value: str = "") -> bytes:
    """Return the key of a value under a name."""
    return prefix(kind, name) + value.encode()


def split(whole: bytes) -> tuple[str, str]:
    """Return the name and the value of a key."""
    name, _, value = whole[1:].partition(_END)
    return name.replace(b"\x00\xff", b"\x00").decode(), value.decode()


def after(start: bytes) -> bytes:
    """Return the first key that cannot begin with `start`."""
    return start[:-1] + bytes([start[-1] + 1])


def number(value: float) -> float:
    """Return a number as segments hold it: a double, the very large as infinite."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
