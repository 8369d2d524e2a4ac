"""Expressions over joined texts match as they would match each text alone, and never run away."""

import time

import pytest
import re2

from cvf_app.engine.text import check, matching
from cvf_app.errors import Invalid

TEXTS = ["", "a", "ab", "b a", "a\nb", "\n", "A", "été", "aaaa", "x.y", "end", "\\", "a\x00b"]
PATTERNS = [
    "", "a", "^a", "a$", "^$", "b?", "a|", "(?s)a.b", "[^z]+", r"\s", r"\Aa", r"b\z", r"a\b",
    "(?i)a", "(?i:A)b", "(?-i)a", "(?m)^b", "(?U)a+", r"\Qx.y", r"\Qx.y\E", r"x\.y", "^.*$", "é",
    r"\W", r"[[:^alpha:]]", r"\PL", "a\nb", r"\n", "(?P<name>a)b", r"\x00", "^[^a]*$", r"\C\C",
]  # fmt: skip


class TestMatching:
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_joined_texts_match_as_alone(self, pattern: str):
        check(pattern, "$")
        # Over bytes, as the engine holds texts; over characters only a byte at a time differs.
        texts = [text.encode() for text in TEXTS]
        alone = [
            at for at, text in enumerate(texts) if re2.search(pattern.encode(), text) is not None
        ]
        assert matching(pattern, texts) == alone

    def test_many_texts_are_told_apart(self):
        texts = [f"value {at} of many".encode() for at in range(5000)]
        assert matching("(17|18) ", texts) == [at for at in range(5000) if at % 100 in {17, 18}]

    def test_hostile_expressions_take_no_long_time(self):
        texts = [b"a" * 500 + b"b"] * 200
        start = time.perf_counter()
        assert matching("(a+)+$", texts) == []
        assert time.perf_counter() - start < 2


class TestCheck:
    @pytest.mark.parametrize("pattern", ["(", r"(a)\1", "a(?=b)", "(?<!a)b", "a" * 1001, "a{9999}"])
    def test_what_cannot_be_used_is_refused_with_its_path(self, pattern: str):
        with pytest.raises(Invalid) as caught:
            check(pattern, "$.eav[0].value")
        assert caught.value.path == "$.eav[0].value"
