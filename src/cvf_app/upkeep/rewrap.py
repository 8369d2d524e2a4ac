"""New versions of the keys that seal documents, and every sealed document brought under them.

Promises: the job may be killed at any moment and begins again without harm: it rotates a key only
if that still has the version it had when the job was asked for, passes over what is renewed
already, and replaces a text only if nobody changed it meanwhile. An old version of a key is retired
last of all, after two looks through everything, `quiet` seconds apart, that found nothing old: a
request that read a document before it was renewed and writes it back has ended by then. It is never
retired while a backup is being made, which would hold texts that its keys do not open.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from cvf_app.backends.keystore import KeyStore, SealedText, version_of
from cvf_app.errors import Conflict
from cvf_app.jobs.handler import Handler, Handlers, Steps
from cvf_app.jobs.model import JobDocument
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.sizes import SMALL
from cvf_app.principal import UserId
from cvf_app.wire import Job

PAGE = 100
# Longer than any request may take (30 s), and than a file key store takes to see a new version.
QUIET_SECONDS = 60.0
_MOST_PASSES = 10
_KEY = "upkeep/rotation"
Alone = Callable[[], AbstractAsyncContextManager[None]]


class Sealed(Protocol):
    """Documents that hold a sealed text each; a store serves it."""

    async def count_sealed(self) -> int:
        """Return about how many there are."""

    async def sealed_page(self, after: str, limit: int) -> Sequence[tuple[str, SealedText]]:
        """Return id and text of the next documents whose ids come after this one, in their order.

        Documents without a sealed text are not among them; an empty answer is the end.
        """

    async def replace_sealed(self, document_id: str, old: str, new: str) -> bool:
        """Put a text in place of another; false if the document holds another one by now."""


@dataclass(frozen=True)
class Vessel:
    """Documents, what they are called, and the named key that seals them."""

    name: str
    key: str
    documents: Sealed


class Rotate(Job, frozen=True, kw_only=True, tag="rotate-keys"):
    """Rotate keys; `before` has the version of each when this was asked for."""

    before: dict[str, int]


class Rotation:
    """Rotating of the keys that seal documents."""

    def __init__(
        self,
        keys: KeyStore,
        jobs: Jobs,
        vessels: Sequence[Vessel],
        *,
        quiet: float = QUIET_SECONDS,
        alone: Alone = nullcontext,
    ) -> None:
        """Rotate the keys of these documents; `alone` keeps backups away in its block."""
        self._keys = keys
        self._jobs = jobs
        self._vessels = tuple(vessels)
        self._quiet = quiet
        self._alone = alone

    async def begin(self, user_id: UserId, idempotency: str | None = None) -> JobDocument:
        """Begin to rotate every key; a rotation that has not ended yet is returned instead.

        Raises:
            Unavailable: the key store or the database does not answer.
        """
        names = sorted({vessel.key for vessel in self._vessels})
        before = {name: await self._keys.newest_version(name) for name in names}
        job = Rotate(before=before)
        return await self._jobs.enqueue(job, user_id, key=_KEY, idempotency=idempotency, size=SMALL)

    async def rotate(self, job: Rotate, steps: Steps) -> dict[str, Any]:
        """Do such a job, and return how many documents were renewed and which version is which."""
        newest: dict[str, int] = {}
        for name, before in sorted(job.before.items()):
            await steps.report(f"new version of the key '{name}'", 0.0)
            now = await self._keys.newest_version(name)
            newest[name] = now if now > before else await self._keys.rotate(name)
        renewed = await self._renew(newest, steps)
        await steps.report("waiting for requests that began before", 0.9)
        await asyncio.sleep(self._quiet)
        renewed += await self._renew(newest, steps)
        # A backup that has begun holds documents of before, and copies the key store last of all.
        async with self._alone():
            for name, version in newest.items():
                await steps.report(f"retiring old versions of the key '{name}'", 0.95)
                await self._keys.retire(name, version)
        return {"renewed": renewed, "versions": newest}

    async def _renew(self, newest: dict[str, int], steps: Steps) -> int:
        """Go through everything until a pass finds nothing old; return how many were renewed."""
        renewed = 0
        for _ in range(_MOST_PASSES):
            old, done = await self._pass(newest, steps)
            renewed += done
            if not old:
                return renewed
        raise Conflict(
            "Sealed documents keep coming back under an old version of their key; the old "
            "versions stay in use. Look for a process of an older release and rotate again."
        )

    async def _pass(self, newest: dict[str, int], steps: Steps) -> tuple[int, int]:
        """Go through everything once; return how many were old and how many were renewed."""
        total = max(1, sum([await vessel.documents.count_sealed() for vessel in self._vessels]))
        seen = old = renewed = 0
        for vessel in self._vessels:
            version = newest.get(vessel.key)
            if version is None:
                # It came with a newer release than the one that asked for this job.
                continue
            after = ""
            while page := await vessel.documents.sealed_page(after, PAGE):
                after = page[-1][0]
                late = [(each, text) for each, text in page if version_of(text.text) < version]
                old += len(late)
                renewed += await self._replace(vessel, late)
                seen += len(page)
                share = 0.9 * min(1.0, seen / total)
                await steps.report(f"renewing {vessel.name}", share)
        return old, renewed

    async def _replace(self, vessel: Vessel, late: list[tuple[str, SealedText]]) -> int:
        if not late:
            return 0
        texts = await self._keys.rewrap(vessel.key, [text for _, text in late])
        done = 0
        for (document_id, before), after in zip(late, texts, strict=True):
            done += await vessel.documents.replace_sealed(document_id, before.text, after)
        return done


def handlers(rotation: Rotation) -> Handlers:
    """Return how the jobs of rotation are done; what was renewed stays when one is cancelled."""
    return {Rotate: Handler(run=rotation.rotate, size=SMALL)}
