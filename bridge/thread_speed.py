"""What a code takes with one thread, with two and with one a core, on the bundle and the machine at hand."""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from bridge.bench import PROMPTS
from bridge.request import MotionRequest
from bridge.stream import Chunk, MotionModel
from python_core.contract.bundle import BundleError

NUM_CODES = 20
ROUNDS = 3
PAYS = 0.9
"""More threads pay where a code takes at most this share of its time with fewer; less is noise."""


@dataclass(frozen=True, kw_only=True)
class ThreadSpeed:
    """Milliseconds of the clock for a code of one stream among so many."""

    num_threads: int
    code_ms: dict[int, float]
    """By number of streams."""


def compare_threads(folder: Path, provider: str, streams: Sequence[int]) -> list[ThreadSpeed]:
    """Measure each number of threads, in turn and again, so that other work meets all of them.

    Args:
        folder: The bundle.
        provider: Where it runs.
        streams: Numbers of streams at the same time.

    Raises:
        BundleError: The bundle does not verify or does not open, or codes differ with the number of threads.
        ProviderError: The provider is unknown or does not load.
    """
    num_cores = os.cpu_count() or 1
    models = {
        threads: MotionModel(folder, provider, threads, max(streams))
        for threads in sorted({1, min(2, num_cores), num_cores})
    }
    try:
        taken_ms: dict[int, dict[int, list[float]]] = {threads: {num: [] for num in streams} for threads in models}
        codes: dict[int, list[list[int]]] = {}
        for _ in range(ROUNDS):
            for threads, model in models.items():
                for num_streams in streams:
                    began_s = time.perf_counter()
                    codes[threads] = asyncio.run(_perform(model, num_streams))
                    took_ms = 1000 * (time.perf_counter() - began_s)
                    taken_ms[threads][num_streams].append(took_ms / sum(map(len, codes[threads])))
    finally:
        for model in models.values():
            model.close()
    if any(found != codes[1] for found in codes.values()):
        raise BundleError(
            f"{folder}: codes differ with the number of threads; serve it with --threads 1, and report it"
        )
    # The first round makes room for what the others use again.
    return [
        ThreadSpeed(num_threads=threads, code_ms={num: median(found[1:]) for num, found in of_threads.items()})
        for threads, of_threads in taken_ms.items()
    ]


async def _perform(model: MotionModel, num_streams: int) -> list[list[int]]:
    """Codes of so many streams at the same time."""

    async def perform(number: int) -> list[int]:
        request = MotionRequest(
            prompt=PROMPTS[number % len(PROMPTS)],
            seed=number,
            reasoning=False,
            max_codes=NUM_CODES,
            temperature=1.0,
            top_p=0.9,
        )
        return [event.code async for event in model.perform(request) if isinstance(event, Chunk)]

    return await asyncio.gather(*(perform(number) for number in range(num_streams)))


def write_json(path: Path, speeds: Sequence[ThreadSpeed]) -> None:
    """The measurements for programs: a list with `num_threads` and `code_ms` by number of streams."""
    path.write_text(json.dumps([asdict(speed) for speed in speeds], indent=2) + "\n", encoding="utf-8")


def best(speeds: Sequence[ThreadSpeed], num_streams: int) -> int:
    """The fewest threads that none which are more undercut by enough to pay."""
    chosen = speeds[0]
    for speed in speeds[1:]:
        if speed.code_ms[num_streams] <= PAYS * chosen.code_ms[num_streams]:
            chosen = speed
    return chosen.num_threads


def table(speeds: Sequence[ThreadSpeed]) -> Table:
    """The measurements for people."""
    columns = {num: f"{num} stream" if num == 1 else f"{num} streams" for num in speeds[0].code_ms}
    told = ", ".join(f"{best(speeds, num)} for {column}" for num, column in columns.items())
    made = Table("threads", *columns.values(), title=f"milliseconds for a code\nbest --threads: {told}")
    for speed in speeds:
        made.add_row(str(speed.num_threads), *(f"{speed.code_ms[num]:.2f}" for num in columns))
    return made
