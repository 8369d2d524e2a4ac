"""Serve Canaille on loopback: `python serve.py FOLDER PORT`. Started and kept by the guard."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import patches  # noqa: F401 - mends Canaille by being imported, before its app is made
from canaille.hypercorn.app import create_app
from hypercorn.asyncio import serve
from hypercorn.config import Config
from settings import settings


async def main(folder: Path, port: int) -> None:
    """Serve until TERM or INT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    app = create_app(config=settings(folder, port))
    how = Config.from_mapping(
        {"bind": [f"127.0.0.1:{port}"], "graceful_timeout": 2, "accesslog": None}
    )
    await serve(app, how, shutdown_trigger=stopped.wait)


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
