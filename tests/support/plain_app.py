"""An app that is not ours, for `CV3_APP_MODULE`: it lives, and answers one page slowly."""

import asyncio
from pathlib import Path

from quart import Quart, request

app = Quart(__name__)


@app.get("/health/live")
@app.get("/health/ready")
async def live():
    return {"plain": True}


@app.get("/slow")
async def slow():
    # Whoever asks knows by the file that the request has arrived.
    await asyncio.to_thread(Path(request.args["arrived"]).touch)
    await asyncio.sleep(float(request.args["seconds"]))
    return {"slow": True}
