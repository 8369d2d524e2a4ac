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
    pattern = _pattern(given.pattern, f"{path}.pattern")
    if isinstance(given, BasicPattern):
        return Compiled(pattern, _template(given.replacement, pattern, f"{path}.replacement"), None)
    return Compiled(
        pattern,
        _template(given.qualifier_replacement, pattern, f"{path}.qualifierReplacement"),
        _template(given.value_replacement, pattern, f"{path}.valueReplacement"),
    )


def matches(given: Compiled, cell: str) -> Iterator[tuple[str, str | None]]:
    """Yield what each match gives: the result, and the value of a qualifier set."""
    for match in given.pattern.finditer(cell):
        if not match.group(0):
            continue
        value = None if given.value is None else _fill(given.value, match)
        yield _fill(given.result, match), value


def _fill(template: Template, match: "re2._Match[str]") -> str:
    return "".join(
        part if isinstance(part, str) else match.group(part) or "" for part in template
    ).strip()


def _pattern(text: str, path: str) -> re2._Regexp:
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
