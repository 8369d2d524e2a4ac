"""Removing what does not answer: left-overs of attempts that ended, replaced shares and folders."""

import time
from pathlib import Path

from cvf_app.ids import SourceId
from cvf_app.loops import in_thread
from cvf_app.sources.model import Contents
from cvf_app.sources.points import Point, Reached, pass_by
from cvf_app.sources.service import RETIRED_SECONDS, Sources

_RETIRED = "retired"


async def tidy(
    sources: Sources, source_id: SourceId, runner: str | None = None, reached: Reached = pass_by
) -> None:
    """Remove all that does not answer, unless an attempt other than `runner` is at work."""
    store, place = sources.store, sources.files.workspace
    # Listed before the document is read: what a newer run writes is not in the list.
    shares = [share for _, share in await store.announced(source_id)]
    segments = sources.segments_folder(source_id)
    folders = await in_thread(_folders, segments)
    works = await in_thread(_folders, sources.work_folder(source_id))
    state = await store.state(source_id)
    working, contents = state if state is not None else (None, Contents())
    if working is not None and working != runner:
        return
    live = {share.share for share in contents.shares}
    for share in shares:
        if share not in live:
            await store.remove_share(share)
            reached(Point.SHARE_REMOVED)
    for folder in (*folders, *works):
        if folder.parent != segments or (
            folder.name != contents.folder and await in_thread(_over, folder)
        ):
            await in_thread(place.clear, folder)
            reached(Point.FOLDER_CLEARED)
    used = {share.data_file_id for share in contents.shares}
    for file in await store.files_of(source_id):
        if file.deleted and file.data_file_id not in used:
            await sources.remove_file(file)
            reached(Point.FILE_REMOVED)


def retire(folder: Path) -> None:
    """Mark a generation's folder as replaced: for a while somebody may still open it."""
    if folder.is_dir():
        (folder / _RETIRED).touch()


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def _over(folder: Path) -> bool:
    """Say whether nobody opens a folder any more: it never answered, or not for a while."""
    try:
        return (folder / _RETIRED).stat().st_mtime < time.time() - RETIRED_SECONDS
    except FileNotFoundError:
        return True
