"""Large files in and out of a real node: speed, peak memory, and how long the event loop stood.

`python -m bench.files [MIB]` sends a table of so many MiB as one body of a range, in chunks and in
a form, reads it back, and reads two as one zip. The sender is a process of its own; memory is the
highest resident size of the node's process, less what it had before. The last line is JSON.
"""

import asyncio
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tests.support import nodes, services

PIECE = 2**20
TICK = 0.005
STALL = 0.05


def content(mib: int, seed: str) -> Iterator[bytes]:
    """Yield a table, a MiB at a time, that nothing can make small."""
    import random  # noqa: PLC0415 - only the sender needs it

    source = random.Random(seed)
    block = source.randbytes(PIECE // 2).hex().encode()
    for number in range(mib):
        yield b"id,%011d\n" % number + block[: PIECE - 15]


def send(address: str, token: str, mib: int, what: str) -> None:
    """Be the sender: send or read as asked, and print the seconds that it took and the id."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=600)
    headers = {"Authorization": f"Bearer {token}"}
    kind, _, rest = what.partition("/")
    began = time.perf_counter()
    size = mib * PIECE
    told = ""
    if kind == "range":
        path = f"/files/upload?resumableIdentifier={uuid4().hex}&resumableFilename=a.csv"
        headers |= {"Content-Range": f"bytes 0-{size - 1}/{size}", "Content-Length": str(size)}
        connection.request("PUT", path, content(mib, rest), headers)
        told = json.loads(connection.getresponse().read())["fileId"]
    elif kind == "form":
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        end = b"\r\n--x--\r\n"
        headers |= {
            "Content-Type": "multipart/form-data; boundary=x",
            "Content-Length": str(len(head) + size + len(end)),
        }
        connection.request("POST", "/files/", _around(head, content(mib, rest), end), headers)
        told = json.loads(connection.getresponse().read())[0]["fileId"]
    elif kind == "chunks":
        source, _, token = rest.partition("/")
        headers |= {"X-Upload-Token": token, "Content-Type": "multipart/form-data; boundary=x"}
        for number, piece in enumerate(content(mib, "c"), 1):
            fields = {
                "resumableChunkNumber": number,
                "resumableTotalChunks": mib,
                "resumableIdentifier": "c",
                "resumableFilename": "a.csv",
            }
            body = b"".join(
                f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
                for key, value in fields.items()
            )
            body += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            connection.request(
                "POST", f"/sources/{source}/upload", body + piece + b"\r\n--x--\r\n", headers
            )
            assert connection.getresponse().read()
    else:
        connection.request("GET", f"/files/{rest}", headers=headers)
        response = connection.getresponse()
        size = 0
        while piece := response.read(PIECE):
            size += len(piece)
        told = str(size)
    print(json.dumps([time.perf_counter() - began, told]))


def _around(head: bytes, inner: Iterator[bytes], end: bytes) -> Iterator[bytes]:
    yield head
    yield from inner
    yield end


class Meter:
    """How late the event loop comes to a task that wants to run every few milliseconds."""

    def __init__(self) -> None:
        self.late: list[float] = []

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK)
            self.late.append(time.perf_counter() - began - TICK)

    def told(self) -> dict[str, float]:
        """Say how late it was since this was last asked."""
        late, self.late = sorted(self.late), []
        return {
            "stalls": sum(one > STALL for one in late),
            "p99_ms": round(late[int(len(late) * 0.99)] * 1000, 1),
            "worst_ms": round(late[-1] * 1000, 1),
        }


def memory(name: str) -> float:
    """Return a size of this process in MiB; asking for `VmRSS` begins a new peak."""
    if name == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


async def measured(node: nodes.Node, meter: Meter, mib: int, what: str) -> tuple[str, dict]:
    """Let the sender do one thing, and say what it took."""
    meter.told() if meter.late else None
    before = memory("VmRSS")
    order = [node.address, node.issuer.token("admin"), str(mib), what]
    sender = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.files", "send", *order, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await sender.communicate()
    seconds, told = json.loads(out)
    found = {
        "what": what.partition("/")[0] if not what.startswith("read") else what.split("/")[1][:7],
        "mib_per_s": round(mib / seconds, 1),
        "peak_mib": round(memory("VmHWM") - before, 1),
        **meter.told(),
    }
    print(found, flush=True)
    return told, found


async def main(mib: int) -> None:
    """Serve a node and measure everything once."""
    with (
        services.mongodb() as mongo,
        services.redis() as redis,
        tempfile.TemporaryDirectory() as to,
    ):
        async with nodes.node(Path(to), mongo, redis) as node:
            meter = Meter()
            metering = asyncio.create_task(meter.run())
            # What the machine does to an idle loop: the floor of the other lines.
            await asyncio.sleep(10)
            idle = meter.told()
            print({"what": "idle", **idle}, flush=True)
            _, warm = await measured(node, meter, 8, "range/warm")
            first, ranges = await measured(node, meter, mib, "range/a")
            second, form = await measured(node, meter, mib, "form/b")
            source = await node.source("bench")
            granted = await node.call("GET", f"/sources/upload-token?sourceId={source}")
            _, chunks = await measured(node, meter, mib, f"chunks/{source}/{granted.json['token']}")
            _, one = await measured(node, meter, mib, f"read/{first}/content")
            _, both = await measured(node, meter, 2 * mib, f"read/archive?id={first}&id={second}")
            metering.cancel()
    print(json.dumps({"mib": mib, "range": ranges, "form": form, "chunks": chunks, "read": one,
                      "zip": both, "warm": warm, "idle": idle}))  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024))
