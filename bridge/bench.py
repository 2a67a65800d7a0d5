"""How soon motion begins and how evenly it comes, with one client and with many: the columns by which speech-to-face
services are compared, so that ours can stand beside them.

Source: the performance test of NVIDIA's Audio2Face-3D service, for the columns.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
from rich.table import Table

from bridge.async_client import AsyncMotionClient
from bridge.client import CallError
from bridge.connection import Connection
from bridge.stubs import motion_pb2

PERCENTILES = (50, 90, 95, 99)
PROMPTS = (
    "a person walks forward",
    "a person turns left and waves",
    "someone squats down and stands up again",
    "a person jumps twice",
)


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured."""

    streams: tuple[int, ...] = (1, 4, 8)
    """Numbers of clients that ask at the same time, one row of the table each."""
    rounds: int = 5
    """Requests of each client, one after another."""
    duration_s: float = 4.0
    """Longest motion of a request."""
    reasoning: bool = False
    """Plan first."""
    pacing: str = "burst"
    """burst: as fast as frames are made. realtime: by the clock, as a game does."""


@dataclass(frozen=True)
class _Timing:
    """One stream, in seconds."""

    first_frame_s: float
    total_s: float
    num_frames: int
    gaps_s: tuple[float, ...]
    late_s: float
    """How long a client that plays at once would have held its last frame."""


@dataclass(frozen=True)
class Spread:
    """Least value and percentiles."""

    min: float
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class Level:
    """What a number of clients at the same time got."""

    streams: int
    complete: int
    refused: int
    """RESOURCE_EXHAUSTED: more clients than --max-streams."""
    failed: int
    first_frame_ms: Spread | None
    frames_per_s: Spread | None
    """Of a stream, its first frame's wait included; p99 is what 99 of 100 streams exceed."""
    chunk_gap_ms: Spread | None
    in_real_time: float
    """Share of complete streams that never kept a client waiting who plays from the first frame on."""


def spread(values: Sequence[float], more_is_better: bool = False) -> Spread | None:
    """The least of the values and what 50, 90, 95 and 99 of 100 are at most; or at least, where more is better."""
    if not len(values):
        return None
    wanted = [100 - percentile for percentile in PERCENTILES] if more_is_better else list(PERCENTILES)
    return Spread(*(round(float(value), 3) for value in (np.min(values), *np.percentile(values, wanted))))


async def measure(connection: Connection, config: BenchConfig) -> list[Level]:
    """Measure each number of clients in turn.

    Raises:
        CallError: The server cannot be reached, or answers otherwise than by a motion or a refusal.
    """
    async with AsyncMotionClient(connection=connection) as client:
        model = (await client.get_model()).model
    code_s = model.frames_per_code / model.frame_rate_hz
    return [await _measure_level(connection, config, num_streams, code_s) for num_streams in config.streams]


async def _measure_level(connection: Connection, config: BenchConfig, num_streams: int, code_s: float) -> Level:
    timings: list[_Timing] = []
    refusals: list[grpc.StatusCode] = []

    async def ask(number: int) -> None:
        async with AsyncMotionClient(connection=connection, patience_s=0.0) as client:
            for turn in range(config.rounds):
                try:
                    timings.append(await _time(client, _request(config, number, turn), code_s))
                except CallError as error:
                    if error.code not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED):
                        raise
                    refusals.append(error.code)
                    await asyncio.sleep(0.05)

    await asyncio.gather(*(ask(number) for number in range(num_streams)))
    refused = refusals.count(grpc.StatusCode.RESOURCE_EXHAUSTED)
    return Level(
        streams=num_streams,
        complete=len(timings),
        refused=refused,
        failed=len(refusals) - refused,
        first_frame_ms=spread([1000 * timing.first_frame_s for timing in timings]),
        frames_per_s=spread([timing.num_frames / timing.total_s for timing in timings], more_is_better=True),
        chunk_gap_ms=spread([1000 * gap_s for timing in timings for gap_s in timing.gaps_s]),
        in_real_time=round(float(np.mean([timing.late_s == 0 for timing in timings])), 3) if timings else 0.0,
    )


def _request(config: BenchConfig, number: int, turn: int) -> motion_pb2.StreamMotionRequest:
    request = motion_pb2.StreamMotionRequest(
        prompt=PROMPTS[(number + turn) % len(PROMPTS)],
        seed=1000 * number + turn,
        reasoning=motion_pb2.REASONING_ON if config.reasoning else motion_pb2.REASONING_OFF,
        max_duration_s=config.duration_s,
    )
    if config.pacing == "realtime":
        request.pacing.mode = motion_pb2.PACING_MODE_REALTIME
    return request


async def _time(client: AsyncMotionClient, request: motion_pb2.StreamMotionRequest, code_s: float) -> _Timing:
    began_s, arrivals_s = time.monotonic(), []
    stream = client.stream(request)
    async for event in stream:
        if event.HasField("chunk"):
            arrivals_s.append(time.monotonic())
    plays_since_s, late_s = arrivals_s[0], 0.0
    for number, arrived_s in enumerate(arrivals_s):
        missing_s = max(0.0, arrived_s - plays_since_s - number * code_s)
        late_s += missing_s
        plays_since_s += missing_s
    return _Timing(
        first_frame_s=arrivals_s[0] - began_s,
        total_s=arrivals_s[-1] - began_s,
        num_frames=stream.track.motion.num_frames,
        gaps_s=tuple(np.diff(arrivals_s).tolist()),
        late_s=late_s,
    )


def held_in_real_time(levels: Sequence[Level]) -> int:
    """The largest number of clients all of whose streams were complete and in real time."""
    held = [level.streams for level in levels if level.complete and level.in_real_time == 1 and not level.refused]
    return max(held, default=0)


def write_json(path: Path, config: BenchConfig, levels: Sequence[Level]) -> None:
    """Write the measurements for programs."""
    fields = {
        "config": asdict(config),
        "levels": [asdict(level) for level in levels],
        "held_in_real_time": held_in_real_time(levels),
    }
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def table(levels: Sequence[Level]) -> Table:
    """The measurements for people."""
    made = Table(title=f"held in real time: {held_in_real_time(levels)} streams")
    for column in ("streams", "complete", "refused", "failed", "", "min", "p50", "p90", "p95", "p99", "real time"):
        made.add_column(column, justify="right")
    for level in levels:
        rows = (
            ("first frame, ms", level.first_frame_ms),
            ("frames a second", level.frames_per_s),
            ("chunk gap, ms", level.chunk_gap_ms),
        )
        counts = (level.streams, level.complete, level.refused, level.failed)
        for place, (name, values) in enumerate(rows):
            first = [str(count) for count in counts] if place == 0 else [""] * 4
            numbers = [f"{value:.1f}" for value in asdict(values).values()] if values else [""] * 5
            made.add_row(*first, name, *numbers, f"{100 * level.in_real_time:.0f} %" if place == 0 else "")
        made.add_section()
    return made
