"""The engine's side of the query benchmark: writing a generation, and asking it everything.

Both run in processes of their own, so that their memory can be told.
"""

import resource
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.measure import resident, timed
from bench.population import World
from bench.questions import Question
from cvf_app.engine.build import build
from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.segments import Generation


def write(total: int, folder: Path, answer: Connection) -> None:
    """Write a generation with the ingest's own builder; send the seconds and the peak memory."""
    world = World()
    start = time.perf_counter()
    build(world.subjects(total), folder)
    took = time.perf_counter() - start
    answer.send((took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def ask(folder: Path, questions: dict[str, list[Question]], answer: Connection) -> None:
    """Answer all questions; send counts and times of each kind, time to open, memory grown."""
    before = resident()
    start = time.perf_counter()
    generation = Generation.open(folder)
    _ = generation.capability_keys
    opened = time.perf_counter() - start
    made: dict[str, Any] = {}
    for kind, asked in questions.items():
        cold: list[float] = []
        for one in asked:
            generation.forget()
            cold.append(timed(partial(_count, generation, one))[0])
        generation.forget()
        # Each is new to the engine here, but the cache has what the others before it left.
        first = [timed(partial(_count, generation, one)) for one in asked]
        warm = [timed(partial(_count, generation, one))[0] for one in asked]
        made[kind] = ([count for _, count in first], cold, [took for took, _ in first], warm)
    answer.send((made, opened, resident() - before))


def _count(generation: Generation, one: Question) -> int:
    return evaluate(generation, one.asked).count
