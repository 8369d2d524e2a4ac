"""A headless Chromium that watches an instance's live page, and the page's own small server.

The browser is driven by its DevTools protocol over one websocket, so that nothing is to be
installed but the browser itself. The page is of another origin than the instance, as a front
end would be; it asks its own server for an access token whenever it needs one.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")
PAGE = Path(__file__).with_name("live.html")
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0


class PageServer:
    """Serves the page on loopback, with the address of the instance and tokens for it."""

    def __init__(self, instance: Callable[[], str], token: Callable[[], str]) -> None:
        """Begin to serve on a free port."""
        told: dict[str, Callable[[], dict[str, str]]] = {
            "/where": lambda: {"instance": instance()},
            "/token": lambda: {"token": token()},
        }

        class Handler(BaseHTTPRequestHandler):
            """Answers three paths."""

            def do_GET(self) -> None:
                """Answer the page or one of its questions."""
                if self.path == "/":
                    self._answer("text/html; charset=utf-8", PAGE.read_bytes())
                elif self.path in told:
                    self._answer("application/json", json.dumps(told[self.path]()).encode())
                else:
                    self.send_error(404)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


def chromium() -> str | None:
    """Return the browser: the one in CV3_CHROMIUM, else one on the PATH, else none."""
    named = os.environ.get("CV3_CHROMIUM")
    return named or next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


class Page:
    """One page of a browser, driven over its own websocket."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: aiohttp.ClientSession, address: str
    ) -> None:
        """Connect to the page at this address of the DevTools."""
        self._loop = loop
        self._number = 0
        # A picture of a page is larger than the four megabytes that are the usual limit.
        self._line = loop.run_until_complete(client.ws_connect(address, max_msg_size=0))
        self.call("Page.enable")

    def call(self, method: str, **params: object) -> Any:  # noqa: ANN401 - whatever it answers
        """Send one command and return its result."""
        return self._loop.run_until_complete(self._call(method, params))

    def value(self, expression: str) -> Any:  # noqa: ANN401 - whatever it is there
        """Return the value of an expression in the page."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        # As if a person had done it: else no page may open another one.
        answer = self.call("Runtime.evaluate", **asked, userGesture=True)
        if "exceptionDetails" in answer:
            raise OSError(f"the page said: {answer['exceptionDetails'].get('text')}")
        return answer["result"].get("value")

    def picture(self, path: Path) -> Path:
        """Keep what the page looks like now."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def leave(self) -> None:
        """Go away from the page; it stays as it is."""
        self._loop.run_until_complete(self._line.close())

    async def _call(self, method: str, params: dict[str, object]) -> Any:  # noqa: ANN401 - see call
        self._number += 1
        await self._line.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(_ANSWER_SECONDS):
            while True:
                message = await self._line.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise OSError("the browser is gone")
                answer = message.json()
                if answer.get("id") == self._number:
                    break
        if "error" in answer:
            raise OSError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]


class Browser:
    """A headless Chromium with one page; close it in the end."""

    def __init__(self, program: str, address: str) -> None:
        """Start it and open a page.

        Raises:
            OSError: it does not start.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="cv3-browser-"))
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-dev-shm-usage", "--disable-background-networking", "--mute-audio"),
                *("--remote-debugging-port=0", f"--user-data-dir={self._folder / 'profile'}"),
                *("--window-size=1280,900", "--disable-extensions", "about:blank"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._loop = asyncio.new_event_loop()
        self._client: aiohttp.ClientSession | None = None
        self._pages: list[Page] = []
        try:
            self._port = self._started()
            self._client = self._loop.run_until_complete(_client())
            self.page = self.opened("about:blank")
            self.page.call("Page.navigate", url=address)
        except BaseException:
            self.close()
            raise

    def opened(self, beginning: str) -> Page:
        """Return the page whose address begins like this, waiting until there is one.

        Raises:
            OSError: there is none.
        """
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            for one in self._loop.run_until_complete(self._list()):
                if one["type"] == "page" and one["url"].startswith(beginning):
                    page = Page(self._loop, self._connected(), one["webSocketDebuggerUrl"])
                    self._pages.append(page)
                    return page
            time.sleep(0.1)
        raise OSError(f"no page of {beginning} was opened")

    def close(self) -> None:
        """End the browser and remove what it wrote."""
        for page in self._pages:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                page.leave()
        if self._client is not None:
            self._loop.run_until_complete(self._client.close())
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._loop.close()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self) -> int:
        port_file = self._folder / "profile" / "DevToolsActivePort"
        until = time.monotonic() + _START_SECONDS
        while not (port_file.exists() and port_file.read_text().count("\n")):
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self._folder / "log").read_text(errors="replace")[-1000:]
                raise OSError(f"the browser does not start: {said}")
            time.sleep(0.1)
        return int(port_file.read_text().splitlines()[0])

    def _connected(self) -> aiohttp.ClientSession:
        if self._client is None:
            raise OSError("the browser is gone")
        return self._client

    async def _list(self) -> list[dict[str, str]]:
        async with self._connected().get(f"http://127.0.0.1:{self._port}/json/list") as answer:
            found: list[dict[str, str]] = await answer.json()
            return found


async def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()
