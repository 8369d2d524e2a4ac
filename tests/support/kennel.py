"""Workers that die at a named point of a run, each a process of its own, for tests.

A line with a point and a number on standard input starts one: it kills itself when it has reached
the point so many times, and how it ended is written as a line. With the point `-` nothing is
killed, and the points that were passed are written. What all of them import is imported once.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from cvf_app.backends import log
from cvf_app.backends.mongo import Mongo
from cvf_app.sources.points import Point
from tests.support.house import House


class Fatal:
    """Kills this process when a point is reached for the so-manyth time."""

    def __init__(self, point: str, number: int) -> None:
        """Die at this point."""
        self._point = point
        self._number = number
        self.passed: Counter[str] = Counter()

    def __call__(self, point: Point) -> None:
        """Hear of a point."""
        self.passed[point.value] += 1
        if point.value == self._point and self.passed[point.value] == self._number:
            os.kill(os.getpid(), signal.SIGKILL)


async def work(words: list[str], fatal: Fatal, job_id: str) -> None:
    """Run jobs until killed, or until this job has ended."""
    mongo_uri, database, redis_url, queue, folder = words
    mongo = Mongo.open(mongo_uri, database, 8)
    house = House(mongo, redis_url, Path(folder), queue=queue, reached=fatal)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(house.worker.run())
        await house.ended(await house.jobs.get(job_id))
        working.cancel()


def main(words: list[str]) -> None:
    """Start one process after another, as asked for."""
    # Standard output is for the answers.
    log.configure("cv3", "ERROR")
    for line in sys.stdin:
        point, number, job_id = json.loads(line)
        fatal = Fatal(point, number)
        child = os.fork()
        if child == 0:
            asyncio.run(work(words, fatal, job_id))
            print(json.dumps({"passed": fatal.passed}), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
