"""What an inspection finds."""

from enum import Enum

from cvf_app.wire import Wire


class Disorder(Enum):
    """The kinds of inconsistency that are looked for, with what each means."""

    FILES_MISSING = "files missing"
    FILES_OF_NOBODY = "files of nobody"
    USERS_WITHOUT_KEYS = "users without keys"
    KEYS_WITHOUT_USERS = "keys without users"
    COUNTS_DISAGREE = "counts disagree"
    JOBS_STUCK = "jobs stuck"

    @property
    def explanation(self) -> str:
        """What it means, for an administrator."""
        return _EXPLANATIONS[self]

    @property
    def advice(self) -> str:
        """What an administrator can do about it."""
        return _ADVICE[self]


_EXPLANATIONS = {
    Disorder.FILES_MISSING: "Data files of sources have lost their content on the disk.",
    Disorder.FILES_OF_NOBODY: (
        "Files are kept for a source or a job that is not there any more, so nobody can use or "
        "remove them."
    ),
    Disorder.USERS_WITHOUT_KEYS: (
        "Users who may log in have no key in the key store, so they cannot."
    ),
    Disorder.KEYS_WITHOUT_USERS: "The key store has keys of people who are no users here.",
    Disorder.COUNTS_DISAGREE: (
        "What sources answer from does not agree with what the database says that they hold."
    ),
    Disorder.JOBS_STUCK: "Jobs have not moved for a day, or were left and nobody took them over.",
}
_ADVICE = {
    Disorder.FILES_MISSING: "Put the files back from a backup, or delete these data files.",
    Disorder.FILES_OF_NOBODY: "Tell the developers; then remove the documents of these files.",
    Disorder.USERS_WITHOUT_KEYS: "Permit their login again, or deactivate them.",
    Disorder.KEYS_WITHOUT_USERS: "Remove these keys, or restore the users from a backup.",
    Disorder.COUNTS_DISAGREE: "Index these sources anew: cvf sources reindex NAME.",
    Disorder.JOBS_STUCK: "See that a process has the duty database-manager, or cancel the jobs.",
}


class Finding(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """One kind of inconsistency: how much of it there is, and the first few by id."""

    kind: str
    explanation: str
    count: int
    examples: tuple[str, ...]
