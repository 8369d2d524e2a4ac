"""The error tree: few errors, named in our words, that know nothing of HTTP.

`web/errors.py` is the one table that turns them into statuses. Each class has a
stable `code` that clients may rely on; a feature subclasses one only where
somebody catches the subclass.
"""


class CafeVariomeError(Exception):
    """Any failure that we foresaw and can explain in a sentence."""

    code = "error"

    def __init__(self, sentence: str, *, path: str | None = None) -> None:
        """Keep the sentence for a person and the path (`$.a.b[0]`) of a field at fault."""
        super().__init__(sentence)
        self.sentence = sentence
        self.path = path


class Invalid(CafeVariomeError):
    """We cannot read what was sent; the path says where."""

    code = "invalid"


class Unauthenticated(CafeVariomeError):
    """We do not know who asks, or the token is bad."""

    code = "unauthenticated"


class Forbidden(CafeVariomeError):
    """We know who asks, and the answer is no."""

    code = "forbidden"


class NotFound(CafeVariomeError):
    """There is none, or it is not yours to know of."""

    code = "notFound"


class Conflict(CafeVariomeError):
    """The present state does not allow it."""

    code = "conflict"


class TooLarge(CafeVariomeError):
    """More was sent than we take."""

    code = "tooLarge"


class TimedOut(CafeVariomeError):
    """The sender did not finish in time."""

    code = "timedOut"


class Exhausted(CafeVariomeError):
    """A limit or a privacy budget is used up."""

    code = "exhausted"


class StorageFull(CafeVariomeError):
    """There is no room left to keep it."""

    code = "storageFull"


class PeerFailed(CafeVariomeError):
    """A node or a source elsewhere answered wrongly."""

    code = "peerFailed"


class Unavailable(CafeVariomeError):
    """A service that we depend on did not answer; the sentence names it."""

    code = "unavailable"


class CredentialsRefused(Unavailable):
    """A service that we depend on does not accept our credentials; a person must mend that."""


class VaultUnavailable(Unavailable):
    """Vault does not do what we need of it now; people who are logged in already may go on."""

    code = "vault_unavailable"


class VaultLoginRefused(VaultUnavailable, CredentialsRefused):
    """Vault does not let us log in: our secret id is wrong, used up or expired."""
