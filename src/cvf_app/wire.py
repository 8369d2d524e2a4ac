"""What crosses a wire: the base structs, and the only encoder and decoder.

Promises: structs are frozen, camelCase outside and snake_case inside, and closed
(an unknown field is refused). A field that holds its default is left out when
written, so a field that must always be seen has no default. Numbers are strict:
`139.0` is no integer. Every decoding fault is `Invalid` with the path of the fault.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from cvf_app.errors import Invalid

T = TypeVar("T")


class Wire(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A closed, frozen value that users or stores send and receive."""


class Heard(Wire, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A value from another program: fields of a newer version are passed over."""


class Job(Wire, frozen=True, kw_only=True, tag_field="job"):
    """The typed arguments of one kind of background job, tagged by `job`."""


def encode(value: object) -> bytes:
    """Write a value as JSON bytes."""
    return msgspec.json.encode(value)


def decode(data: bytes, kind: type[T]) -> T:
    """Read JSON bytes as a value of this kind.

    Raises:
        Invalid: the bytes are no JSON or no such value; `path` says where.
    """
    return _read(lambda: msgspec.json.decode(data, type=kind))


def convert(value: object, kind: type[T]) -> T:
    """Read plain dictionaries and lists, as a store returns them, as a value of this kind.

    Raises:
        Invalid: they are no such value; `path` says where.
    """
    return _read(lambda: msgspec.convert(value, type=kind))


def plain(value: object) -> Any:  # noqa: ANN401 - what JSON can hold has no narrower name
    """Write a value as plain dictionaries and lists, for a store."""
    return msgspec.to_builtins(value)


def _read(reading: Callable[[], T]) -> T:
    try:
        return reading()
    except msgspec.ValidationError as fault:
        sentence, _, path = str(fault).partition(" - at `")
        raise Invalid(sentence + ".", path=path.rstrip("`") or "$") from fault
    except msgspec.DecodeError as fault:
        raise Invalid(f"This is not valid JSON: {fault}.", path="$") from fault
    except RecursionError as fault:
        raise Invalid("The JSON is nested too deeply.", path="$") from fault
    except UnicodeDecodeError as fault:
        raise Invalid("The JSON is not valid UTF-8.", path="$") from fault
