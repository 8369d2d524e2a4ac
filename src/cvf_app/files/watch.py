"""Seeing at once that somebody removed a content from the folder by hand (inotify and its kin).

The sweep finds the same, later; so a system that cannot watch folders costs patience, no data.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import structlog
from watchfiles import Change, DefaultFilter
from watchfiles import watch as watched

from cvf_app.files.service import Files
from cvf_app.loops import in_thread

WAIT_SECONDS = 1.0
AGAIN_SECONDS = 60.0
_DIGEST_LENGTH = 64
_LOOK_MILLISECONDS = 1000
log = structlog.get_logger("cv3.files")


class _Removals(DefaultFilter):
    """Lets through what was removed, of contents alone; what is staged comes and goes."""

    def __call__(self, change: Change, path: str) -> bool:
        return change is Change.deleted and len(Path(path).name) == _DIGEST_LENGTH


async def watch(files: Files, folder: Path) -> None:
    """Look after every content that vanishes from a folder; without end."""
    while True:
        # Nothing was ever kept, or the disk is not mounted.
        while not await in_thread(folder.is_dir):  # noqa: ASYNC110 - nobody announces a mount
            await asyncio.sleep(WAIT_SECONDS)
        try:
            swept = False
            async for changes in _seen(folder):
                if not swept:
                    # What went before we looked.
                    await files.sweep()
                    swept = True
                for _, path in changes:
                    await files.look(Path(path).name)
        except OSError as fault:
            # As when the system's number of watches is used up.
            log.warning("folder_cannot_be_watched", cause=type(fault).__name__)
        await asyncio.sleep(AGAIN_SECONDS)


async def _seen(folder: Path) -> AsyncIterator[set[tuple[Change, str]]]:
    """Yield what was removed, or nothing after a while.

    In a thread of its own: to begin, the whole folder is walked, which may take long.
    """
    stop = Event()
    changes = watched(
        folder,
        watch_filter=_Removals(),
        stop_event=stop,
        rust_timeout=_LOOK_MILLISECONDS,
        yield_on_timeout=True,
    )
    try:
        while (found := await asyncio.to_thread(next, changes, None)) is not None:
            yield found
    finally:
        stop.set()
