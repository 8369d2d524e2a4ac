r"""Patterns of users (RE2, linear time) and their replacements, compiled once and run often.

Pure. A replacement knows `\1`, `\g<0>`, `\g<name>` and `\\`; matches are extracted by it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import re2

from cvf_app.errors import Invalid
from cvf_app.pipelines.model import BasicPattern, QualifierPattern

LONGEST_PATTERN = 2000
_MEMORY = 8 * 2**20
_UNANCHORED = re2._re2.RE2.Anchor.UNANCHORED  # noqa: SLF001 - see `matches`
_INNER = 0x80
_PIECE = re.compile(r"\\(?:g<(\w+)>|([0-9]{1,2})|(\\)|(.?))", re.DOTALL)
Template = tuple[str | int, ...]


class Compiled(NamedTuple):
    """A pattern set ready to run; `value` is there for a qualifier set alone."""

    pattern: re2._Regexp
    result: Template
    value: Template | None


def compile_set(given: BasicPattern | QualifierPattern, path: str) -> Compiled:
    """Compile a pattern set.

    Raises:
        Invalid: the pattern is none of RE2, or a replacement names a group that is not there.
    """
    pattern = compile_pattern(given.pattern, f"{path}.pattern")
    if isinstance(given, BasicPattern):
        return Compiled(pattern, _template(given.replacement, pattern, f"{path}.replacement"), None)
    return Compiled(
        pattern,
        _template(given.qualifier_replacement, pattern, f"{path}.qualifierReplacement"),
        _template(given.value_replacement, pattern, f"{path}.valueReplacement"),
    )


def matches(given: Compiled, cell: str) -> Iterator[tuple[str, str | None]]:
    """Yield what each match gives: the result, and the value of a qualifier set."""
    # Straight to RE2 and on bytes: its Python wrapper counts characters for every match.
    find, data = given.pattern._regexp.Match, cell.encode()  # noqa: SLF001 - see above
    place, size = 0, len(data)
    while place < size:
        spans = find(_UNANCHORED, data, place, size)
        start, end = spans[0]
        if start < 0:
            return
        if start == end:
            # An empty match gives nothing; the next one is looked for behind the next character.
            place = end if end > place else end + _width(data, end)
            continue
        value = None if given.value is None else _fill(given.value, data, spans)
        yield _fill(given.result, data, spans), value
        place = end


def _width(data: bytes, place: int) -> int:
    width = 1
    while data[place + width : place + width + 1] and data[place + width] & 0xC0 == _INNER:
        width += 1
    return width


def _fill(template: Template, data: bytes, spans: list[tuple[int, int]]) -> str:
    if len(template) == 1 and isinstance(template[0], int):
        start, end = spans[template[0]]
        return data[start:end].decode().strip() if start >= 0 else ""
    return "".join(
        part
        if isinstance(part, str)
        else (data[spans[part][0] : spans[part][1]].decode() if spans[part][0] >= 0 else "")
        for part in template
    ).strip()


def compile_pattern(text: str, path: str) -> re2._Regexp:
    """Compile a pattern of RE2.

    Raises:
        Invalid: it is none.
    """
    if len(text) > LONGEST_PATTERN:
        raise Invalid(f"A pattern has at most {LONGEST_PATTERN} characters.", path=path)
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(text, options)
    except re2.error as fault:
        reason = fault.args[0] if fault.args else ""
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise Invalid(
            f"This pattern cannot be used (the dialect is RE2, without look-around and back"
            f" references): {said}.",
            path=path,
        ) from fault


def _template(text: str, pattern: re2._Regexp, path: str) -> Template:
    if len(text) > LONGEST_PATTERN:
        raise Invalid(f"A replacement has at most {LONGEST_PATTERN} characters.", path=path)
    parts: list[str | int] = []
    place = 0
    for piece in _PIECE.finditer(text):
        parts.append(text[place : piece.start()])
        place = piece.end()
        name, number, backslash, other = piece.groups()
        if backslash:
            parts.append("\\")
        elif other is not None:
            raise Invalid(
                f"A replacement knows \\1, \\g<0>, \\g<name> and \\\\, and not {piece[0]!r}.",
                path=path,
            )
        else:
            parts.append(_group(name or number, pattern, path))
    parts.append(text[place:])
    return tuple(part for part in parts if part != "")


def _group(name: str, pattern: re2._Regexp, path: str) -> int:
    number = int(name) if name.isdigit() else pattern.groupindex.get(name)
    if number is None or number > pattern.groups:
        raise Invalid(f"The pattern has no group {name!r}.", path=path)
    return int(number)
