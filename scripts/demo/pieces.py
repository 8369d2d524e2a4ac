"""Uploads over a bad line: pieces out of order, broken off in mid-body, sent again and twice.

Both ways of sending are here: chunks of a form as resumable.js sends them, and ranges by PUT.
Whatever is cut off is cut by closing the connection after a random part of the body. What was
broken, repeated and reordered is counted, so that a demonstration can show that it happened.
"""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

from cvf_app.console.failures import Failure
from cvf_app.console.server import Answer, Server, exchange
from cvf_app.console.upload import multipart
from scripts.demo.instance import Breach
from scripts.demo.planted import Copy

CUT_SHARE = 0.2
AGAIN_SHARE = 0.1
UNWANTED = 4 * 2**20
"""What is sent at least of a range that is refused: more than a server takes in unasked."""
_SLOW = 0.002
_SETTLED_SECONDS = 0.1
_PATIENCE_SECONDS = 300.0


@dataclass
class Suffered:
    """What happened to the pieces of an upload."""

    pieces: int = 0
    cut: int = 0
    again: int = 0
    reordered: int = 0
    bytes: int = 0

    def __add__(self, other: "Suffered") -> "Suffered":
        """Return what happened to both."""
        return Suffered(
            self.pieces + other.pieces,
            self.cut + other.cut,
            self.again + other.again,
            self.reordered + other.reordered,
            self.bytes + other.bytes,
        )


class Line:
    """A line to an instance that breaks now and then."""

    def __init__(self, server: Server, token: Callable[[], str], seed: int) -> None:
        """Speak to this instance with tokens of this maker."""
        self._server = server
        self._token = token
        self._chance = random.Random(seed)  # noqa: S311 - a seeded draw, no secret
        self.suffered = Suffered()

    def send(self, source_id: str, name: str, content: Copy, piece: int) -> str:
        """Send a file in the chunks of a form and return the data file's id."""
        chance, before = self._chance, self.suffered.pieces
        path = f"/sources/{source_id}/upload"
        token = self._server.get("/sources/upload-token", sourceId=source_id)["token"]
        total = max(1, -(-content.size // piece))
        order = list(range(1, total + 1))
        chance.shuffle(order)
        self.suffered.reordered += sum(number != at for at, number in enumerate(order, 1))
        made = ""
        for number in order:
            fields = {
                "resumableChunkNumber": str(number),
                "resumableTotalChunks": str(total),
                "resumableIdentifier": f"{before}-{name}",
                "resumableFilename": name,
            }
            data = content.read((number - 1) * piece, piece)
            kind, body = multipart(fields, data, name)
            headers = {"Content-Type": kind, "X-Upload-Token": token}
            self.suffered.pieces += 1
            self.suffered.bytes += len(data)
            while chance.random() < CUT_SHARE:
                self._cut("POST", path, headers, body)
                asked = {"resumableIdentifier": f"{before}-{name}"}
                there = self._server.call("GET", f"{path}?{urlencode(asked)}", headers=headers)
                if number in there["chunks"]:
                    raise Breach(f"chunk {number} of {name} is said to be there; it was cut off")
            told = self._sent("POST", path, headers, body).json()
            made = made or told.get("dataFileId", "")
            if chance.random() < AGAIN_SHARE:
                self.suffered.again += 1
                told = self._sent("POST", path, headers, body).json()
                made = made or told.get("dataFileId", "")
        if not made:
            raise Breach(f"{name} was sent in {total} chunks and became no data file")
        return str(made)

    def send_ranges(self, source_id: str, name: str, content: Copy, piece: int) -> str:
        """Send a file in ranges, each from where the last one got, and return the data file's id.

        Ranges come in order, so one that is repeated or too early must be refused as a conflict.
        So may be the one after a cut, when more of what was cut off arrived in the meantime.
        """
        chance = self._chance
        asked = {"resumableIdentifier": f"ranges-{name}", "resumableFilename": name}
        path = f"/sources/{source_id}/upload?{urlencode(asked)}"
        token = self._server.get("/sources/upload-token", sourceId=source_id)["token"]
        headers = {"Content-Type": "application/octet-stream", "X-Upload-Token": token}
        at, size, was_cut = 0, content.size, False
        while True:
            data = content.read(at, piece)
            self.suffered.pieces += 1
            self.suffered.bytes += len(data)
            if at and chance.random() < AGAIN_SHARE:
                wrong = chance.choice((0, min(size - 1, at + len(data))))
                unwanted = content.read(wrong, max(piece, UNWANTED))
                self._conflicts(path, headers, unwanted, wrong, size)
            known = {**headers, **_range(at, len(data), size)}
            if chance.random() < CUT_SHARE:
                self._cut("PUT", path, known, data)
                at, was_cut = self._received(path, headers, size), True
                continue
            answer = self._answered("PUT", path, known, data)
            if was_cut and answer.status == HTTPStatus.CONFLICT:
                at = self._received(path, headers, size)
                continue
            told, was_cut = _good(answer, path).json(), False
            if "dataFileId" in told:
                return str(told["dataFileId"])
            at = told["received"]

    def _conflicts(
        self, path: str, headers: Mapping[str, str], data: bytes, at: int, size: int
    ) -> None:
        self.suffered.again += at == 0
        self.suffered.reordered += at > 0
        answer = self._answered("PUT", path, {**headers, **_range(at, len(data), size)}, data)
        if answer.status != HTTPStatus.CONFLICT:
            raise Breach(f"a range out of order was answered {answer.status}: {answer.body!r}")

    def _received(self, path: str, headers: Mapping[str, str], size: int) -> int:
        """Return how much has arrived, once what was cut off is put away."""
        told = -1
        while True:
            asked = {**headers, "Content-Range": f"bytes */{size}"}
            now = int(self._sent("PUT", path, asked, b"").json()["received"])
            if now == told:
                return now
            told = now
            time.sleep(_SETTLED_SECONDS)

    def _sent(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        return _good(self._answered(method, path, headers, body), path)

    def _answered(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        known = {**headers, "Authorization": f"Bearer {self._token()}"}
        address = f"{self._server.address}{path}"
        return exchange(method, address, body=body, headers=known, patience=_PATIENCE_SECONDS)

    def _cut(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send a request up to somewhere in its body, and hang up: politely or not."""
        parts = urlsplit(self._server.address)
        lines = {
            **headers,
            "Host": parts.netloc,
            "Authorization": f"Bearer {self._token()}",
            "Content-Length": str(len(body)),
        }
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        upto = self._chance.randrange(1, len(body))
        rudely = self._chance.random() < 0.5  # noqa: PLR2004 - one of two
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as line:
            # The other side may refuse before it has heard everything; then it is cut as well.
            with contextlib.suppress(ConnectionError):
                line.sendall(head.encode() + b"\r\n" + body[:upto])
                time.sleep(_SLOW)
            if rudely:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.suffered.cut += 1


def _good(answer: Answer, path: str) -> Answer:
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise Failure(f"{path}: {answer.status} {answer.body.decode()[:500]}")
    return answer


def _range(first: int, length: int, total: int) -> dict[str, str]:
    return {"Content-Range": f"bytes {first}-{first + length - 1}/{total}"}
