"""How our things are called in Vault, so that several instances share one and never meet."""

import re
from dataclasses import dataclass
from typing import Self

from cvf_app.errors import Invalid

# What transit takes as a name, without the doubled marks that keep prefixes apart.
_WORD = re.compile(r"\w+(?:[.-]\w+)*", re.ASCII)


@dataclass(frozen=True)
class Names:
    """How our things are called in Vault.

    A transit key has no folders, so the prefix stands in its name: `/` becomes `.-` and `--` ends
    it. No prefix can then be the beginning of another one's names. Three kinds of keys: `key-`
    encrypts, `index-` digests and is never rotated, `user-` is a person's pair.
    """

    prefix: str

    @classmethod
    def of(cls, prefix: str) -> Self:
        """Check a prefix.

        Raises:
            Invalid: it cannot be part of a key's name.
        """
        kept = prefix.strip("/")
        if kept and not all(map(_WORD.fullmatch, kept.split("/"))):
            raise Invalid(
                "The prefix has letters, digits and _, with single . or - inside a word, and / "
                "between words.",
                path="$.Vault.KV2Prefix",
            )
        return cls(kept)

    def secret(self, path: str) -> str:
        """Return the path of a secret."""
        words = path.split("/")
        # An address with `..` would be cut short on its way and leave the prefix.
        if not all(words) or {".", ".."} & set(words) or not path.isprintable():
            raise ValueError("this is no path of a secret")
        return f"{self.prefix}/{path}" if self.prefix else path

    def key(self, name: str) -> str:
        """Return the name of a key that encrypts."""
        return self._name("key", name)

    def index(self, name: str) -> str:
        """Return the name of the key that makes the digests beside it."""
        return self._name("index", name)

    def person(self, user_id: str) -> str:
        """Return the name of a person's key pair."""
        return self._name("user", user_id)

    def _name(self, kind: str, name: str) -> str:
        if not _WORD.fullmatch(name):
            raise ValueError("this is no name of a key")
        lead = f"{self.prefix.replace('/', '.-')}--" if self.prefix else ""
        return f"{lead}{kind}-{name}"
