"""Matching a person's regular expression against many distinct texts, in linear time, by RE2.

Texts are matched joined by line feeds, in one pass, as if each were alone: `never_nl`
keeps a match within its line, `(?m)` lets `^` and `$` stand at its ends. Where an
expression could tell the difference, and for texts that hold a line feed, each text
is matched by itself.
"""

import re
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import re2

from cvf_app.errors import Invalid

PATTERN_LENGTH = 1000
_MEMORY = 8 << 20
Places = npt.NDArray[np.intp]
# Ends of the whole text, a byte at a time, quoting to the end, and flags switched off.
_TELLS_LINES = re.compile(r"\\[AzZCQ]|\(\?[a-zA-Z]*-")


@lru_cache(maxsize=64)
def _compiled(pattern: bytes, *, within_lines: bool) -> Any:  # noqa: ANN401 - re2 has no types
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    options.never_nl = within_lines
    return re2.compile(pattern, options)


def check(pattern: str, path: str) -> None:
    """See that RE2 takes an expression.

    Raises:
        Invalid: it is too long, wrong, or asks for what RE2 cannot do.
    """
    if len(pattern) > PATTERN_LENGTH:
        raise Invalid(
            f"A regular expression may have at most {PATTERN_LENGTH} characters.", path=path
        )
    try:
        _compiled(pattern.encode(), within_lines=False)
    except re2.error as fault:
        why = fault.args[0] if fault.args else ""
        why = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise Invalid(
            f"This regular expression cannot be used ({why}). Look-around and back-references "
            "are not supported.",
            path=path,
        ) from fault


def matching(pattern: str, texts: list[bytes]) -> list[int]:
    """Return the numbers of the texts in which the expression matches somewhere."""
    alone = _compiled(pattern.encode(), within_lines=False)
    if _TELLS_LINES.search(pattern):
        return [at for at, text in enumerate(texts) if alone.search(text)]
    joined = b"\n".join(texts) + b"\n"
    ends = _ends(joined)
    if len(ends) == len(texts):
        return _in_lines(pattern, joined, ends)
    plain = [at for at, text in enumerate(texts) if b"\n" not in text]
    joined = b"".join([texts[at] + b"\n" for at in plain])
    found = [plain[at] for at in _in_lines(pattern, joined, _ends(joined))]
    odd = set(range(len(texts))).difference(plain)
    return sorted(found + [at for at in odd if alone.search(texts[at])])


def _ends(joined: bytes) -> Places:
    return np.flatnonzero(np.frombuffer(joined, np.uint8) == ord("\n"))


def _in_lines(pattern: str, joined: bytes, ends: Places) -> list[int]:
    # `.*` takes the rest of the line, so that a line is found once.
    expression = _compiled(b"(?m)(?:" + pattern.encode() + b").*", within_lines=True)
    starts = [match.start() for match in expression.finditer(joined)]
    lines = np.unique(np.searchsorted(ends, np.array(starts, np.int64)))
    # An expression that matches nothing also matches behind the last line.
    return [int(line) for line in lines if line < len(ends)]
