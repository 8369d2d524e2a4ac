"""Folders of this machine in which work is done: segments of the engine, what jobs write.

They are no contents: nothing here is shared with other machines or outlives what it is for.
The methods wait for the disk, but for `folder`: call them in a thread.
"""

import shutil
import time
from pathlib import Path

from cvf_app.files.place import LEFTOVER_SECONDS
from cvf_app.ids import new_id


class Workspace:
    """The folders below one root."""

    def __init__(self, root: Path) -> None:
        """Work below `root`."""
        self.root = root

    def folder(self, kind: str, *names: str) -> Path:
        """Return a folder of ours below the root; `names` are ids that we made."""
        if any(not name or "/" in name or name.startswith(".") for name in names):
            raise ValueError("a name of a folder is an id of ours")
        return self.root.joinpath(kind, *names)

    def clear(self, folder: Path) -> None:
        """Remove a folder below the root with all that is in it; it vanishes at once."""
        if not folder.is_relative_to(self.root) or folder == self.root:
            raise ValueError("only folders of the place are cleared")
        bin_ = self.root / "bin" / new_id()
        bin_.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(bin_)
        except FileNotFoundError:
            return
        shutil.rmtree(bin_, ignore_errors=True)

    def empty_bin(self, age: float = LEFTOVER_SECONDS) -> None:
        """Remove what a crash left half removed, and spools, if older than so many seconds."""
        for kind in ("bin", "spool"):
            for left in self.folder(kind).glob("*"):
                if not older(left, age):
                    continue
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def older(path: Path, age: float) -> bool:
    """Say whether a file or folder was last written to more than so many seconds ago."""
    try:
        return time.time() - path.stat().st_mtime >= age
    except FileNotFoundError:
        return False
