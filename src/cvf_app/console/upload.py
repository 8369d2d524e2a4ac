"""Sending a file in chunks that can be taken up again, and a folder as one zip.

An upload is named by what is sent (SHA-256), so the same command after a cut goes on where
it was. Zips are made the same each time: sorted names, one fixed date.
"""

import hashlib
import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvf_app.console.failures import Failure, Misused, NoSuchThing, NotReached
from cvf_app.console.server import Json, Server
from cvf_app.console.show import bytes_bar

_DIGEST_BYTES = 1024 * 1024
_TRIES = 3


def send(server: Server, source_id: str, path: Path, chunk_bytes: int | None = None) -> bool:
    """Upload one file, or one folder as a zip; chunks that are there already are left out.

    Chunks have the size that the server asks for, unless one is given.

    Say whether it was sent: a file that the source has, by name and content, is not sent again.

    Raises:
        Failure: the server refused, or a chunk did not arrive in three tries.
    """
    with _as_file(path) as (file, name):
        size = file.stat().st_size
        if not size:
            raise Misused(f"{path} is empty.")
        digest = _digest(file)
        kept = server.get(f"/sources/{source_id}/datafiles")
        if any(one["filename"] == name and one.get("sha256") == digest for one in kept):
            return False
        upload = _Upload(server, source_id, file, name, digest, chunk_bytes)
        there = upload.chunks_there()
        with bytes_bar(size, name) as bar:
            task = bar.task_ids[0]
            for number in range(1, upload.total + 1):
                if number not in there:
                    upload.send(number)
                bar.update(task, completed=min(number * upload.chunk_bytes, size))
    return True


class _Upload:
    """One file on its way."""

    def __init__(
        self,
        server: Server,
        source_id: str,
        file: Path,
        name: str,
        digest: str,
        chunk_bytes: int | None,
    ) -> None:
        self._server = server
        self._path = f"/sources/{source_id}/upload"
        self._file = file
        self._name = name
        self._source_id = source_id
        granted = self._granted()
        self._token = str(granted["token"])
        self.chunk_bytes = chunk_bytes or int(granted["chunkSize"])
        self.total = max(1, -(-file.stat().st_size // self.chunk_bytes))
        self.identifier = f"{digest[:40]}-{self.chunk_bytes}"

    def chunks_there(self) -> frozenset[int]:
        """Ask which chunks the server has of an earlier try."""
        try:
            told: Any = self._server.call(
                "GET",
                f"{self._path}?resumableIdentifier={self.identifier}",
                headers=self._headers(),
            )
        except NoSuchThing:
            return frozenset()
        if isinstance(told, dict):
            told = next((value for value in told.values() if isinstance(value, list)), [])
        found = frozenset(int(number) for number in told or ())
        # A complete upload is asked for again so that its data file is made once more.
        return found if len(found) < self.total else frozenset()

    def send(self, number: int) -> None:
        """Send one chunk, thrice at most."""
        with self._file.open("rb") as file:
            file.seek((number - 1) * self.chunk_bytes)
            content = file.read(self.chunk_bytes)
        fields = {
            "resumableChunkNumber": str(number),
            "resumableTotalChunks": str(self.total),
            "resumableIdentifier": self.identifier,
            "resumableFilename": self._name,
        }
        kind, body = multipart(fields, content, self._name)
        failure: Failure | None = None
        for _ in range(_TRIES):
            try:
                self._server.call(
                    "POST", self._path, body=body, headers={"Content-Type": kind, **self._headers()}
                )
            except NotReached as fault:
                failure = fault
            except Failure as fault:
                # The upload token may have run out; the login was renewed already.
                if "upload token" not in fault.sentence:
                    raise
                self._token, failure = str(self._granted()["token"]), fault
            else:
                return
        if failure is not None:
            failure.advice = failure.advice or "The same command goes on where this one stopped."
            raise failure

    def _headers(self) -> dict[str, str]:
        return {"X-Upload-Token": self._token}

    def _granted(self) -> Json:
        return self._server.get("/sources/upload-token", sourceId=self._source_id)


def multipart(fields: dict[str, str], content: bytes, filename: str) -> tuple[str, bytes]:
    """Return the content type and body of a form with one file (RFC 7578)."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    quoted = filename.replace("\\", "_").replace('"', "%22").replace("\r", "").replace("\n", "")
    parts += [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode(),
        content,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)


@contextmanager
def _as_file(path: Path) -> Iterator[tuple[Path, str]]:
    if not path.is_dir():
        yield path, path.name
        return
    with tempfile.TemporaryDirectory(prefix="cvf-") as folder:
        packed = Path(folder) / "packed.zip"
        pack(path, packed)
        yield packed, f"{path.resolve().name}.zip"


def pack(folder: Path, target: Path) -> None:
    """Write the files below a folder as a zip with their relative paths; links are left out.

    Raises:
        Misused: there are none.
    """
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink() and not file.name.startswith(".")
    )
    if not files:
        raise Misused(f"There are no files in {folder}.")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open("rb") as content, packed.open(entry, "w", force_zip64=True) as inside:
                while piece := content.read(_DIGEST_BYTES):
                    inside.write(piece)


def _digest(file: Path) -> str:
    told = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(_DIGEST_BYTES):
            told.update(piece)
    return told.hexdigest()
