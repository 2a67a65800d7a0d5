"""Streams that share the thread of steps: alone or together, cancelled, failing."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge.depth_head import DepthHead
from bridge.engine import Row, Step
from bridge.request import History, MotionRequest
from bridge.step_loop import MOST_AHEAD
from bridge.stream import Chunk, Event, MotionModel, Planned
from export.bundle_writer import export_bundle
from export.config import ExportConfig, Precision
from python_core.contract.bundle import BundleError, Manifest
from python_core.contract.plan import PlanError

REQUEST = MotionRequest(prompt="a person walks", seed=5, reasoning=False, max_codes=6, temperature=1.5, top_p=0.95)
PROMPTS = ("a person walks", "someone waves with the right arm", "squat", "walk in a circle, then wave and squat")
NUM_STAYING = 72
"""Neighbours that have rows at the same time; some of them end before the last has joined."""

Write = Callable[[Sequence[int]], Path]


@pytest.fixture
def model(tiny_bundle: Path) -> Iterator[MotionModel]:
    model = MotionModel(tiny_bundle, "cpu", max_rows=48)
    yield model
    model.close()


async def read(model: MotionModel, request: MotionRequest) -> list[Event]:
    return [event async for event in model.perform(request)]


async def wait_until_idle(model: MotionModel) -> None:
    deadline = time.monotonic() + 5
    while model.num_streams or model.engine.num_rows:
        assert time.monotonic() < deadline, f"{model.num_streams} streams, {model.engine.num_rows} rows"
        await asyncio.sleep(0.001)


async def reasoning(model: MotionModel, seed: int) -> str:
    """What the model plans, or why that is no plan."""
    try:
        events = await read(model, replace(REQUEST, reasoning=True, seed=seed))
    except PlanError as error:
        return str(error)
    assert isinstance(events[0], Planned)
    return events[0].text


def frames(events: Sequence[Event]) -> list[tuple[int, bytes, bytes]]:
    return [
        (event.code, event.motion.root_positions_m.tobytes(), event.motion.joint_rotations.tobytes())
        for event in events
        if isinstance(event, Chunk)
    ]


def test_the_manifest_says_how_cold_the_reasoning_is_drawn(model: MotionModel):
    manifest = model.bundle.manifest
    for temperature, are_same in ((0.0, True), (1.0, False)):
        sampling = replace(manifest.sampling, reasoning_temperature=temperature)
        model.bundle = replace(model.bundle, manifest=replace(manifest, sampling=sampling))
        told = {asyncio.run(reasoning(model, seed)) for seed in range(4)}
        assert (len(told) == 1) == are_same
    one, other = (asyncio.run(read(model, replace(REQUEST, seed=seed))) for seed in (0, 1))
    assert frames(one) != frames(other)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.usefixtures("decoder_of_the_tiny_bundle")
def test_codes_and_frames_are_the_same_to_the_last_bit_alone_and_with_64_random_neighbours(
    precision: Precision, tiny_checkpoint: Path, tiny_bundle: Path, manifest: Manifest, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    bundle = tiny_bundle
    if precision != "fp32":
        bundle = tmp_path / precision
        config = ExportConfig(precision=precision, parity_tokens=100, calibration_tokens=400)
        export_bundle(tiny_checkpoint, bundle, config)
    model = MotionModel(bundle, "cpu", max_rows=80)
    random = np.random.default_rng(1)
    history = History(tuple(random.integers(manifest.tokens.num_codes, size=20).tolist()), 1.0, 2.0, 0.5)
    watched = [
        replace(REQUEST, max_codes=20),
        replace(REQUEST, seed=6, history=history, max_codes=16),
        replace(REQUEST, prompt=PROMPTS[3], max_codes=24),
    ]
    neighbours = [
        replace(
            REQUEST,
            prompt=PROMPTS[number % 4],
            seed=number,
            max_codes=int(random.integers(12, 24) if number < NUM_STAYING else random.integers(1, 9)),
            history=history if number % 5 == 0 else None,
            temperature=0.5 * (number % 4),
            reasoning=number % 3 == 0,
        )
        for number in range(NUM_STAYING + 24)
    ]
    step, num_ready = model.engine.step, list[int]()

    def counted_step() -> Step:
        found = step()
        num_ready.append(len(found.rows))
        return found

    async def among_others() -> list[list[Event]]:
        num_begun, all_wait = 0, asyncio.Event()

        async def stay(request: MotionRequest) -> list[Event]:
            """Pause until all who stay have a row, then go on with them."""
            nonlocal num_begun
            stream = model.perform(request)
            try:
                events = [await anext(stream)]
            except PlanError:
                return []
            finally:
                num_begun += 1
            await all_wait.wait()
            return events + [event async for event in stream]

        async def pass_by(request: MotionRequest, after_others: bool) -> None:
            if after_others:
                await all_wait.wait()
            await asyncio.sleep(0.05 * random.random())
            with suppress(PlanError):
                await read(model, request)

        staying = [asyncio.create_task(stay(request)) for request in (*watched, *neighbours[:NUM_STAYING])]
        passing = [
            asyncio.create_task(pass_by(request, number % 2 == 0))
            for number, request in enumerate(neighbours[NUM_STAYING:])
        ]
        deadline = time.monotonic() + 60
        while num_begun < len(staying) or not all(stream.is_ahead for stream in model.steps.streams):
            assert time.monotonic() < deadline, f"{num_begun} of {len(staying)} have begun"
            await asyncio.sleep(0.001)
        all_wait.set()
        got = await asyncio.gather(*staying)
        await asyncio.gather(*passing)
        await wait_until_idle(model)
        return got[: len(watched)]

    alone = [asyncio.run(read(model, request)) for request in watched]
    monkeypatch.setattr(model.engine, "step", counted_step)
    together = asyncio.run(among_others())
    model.close()
    assert [frames(events) for events in together] == [frames(events) for events in alone]
    # They had not ended before the others were there.
    assert all(len(frames(events)) > MOST_AHEAD + 2 for events in alone)
    assert max(num_ready) >= 64 + len(watched)


def test_closing_or_cancelling_a_stream_frees_its_row_and_no_step_follows(scripted_bundle: Write, manifest: Manifest):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1]), "cpu")
    endless = replace(REQUEST, max_codes=5000)

    async def close() -> None:
        events = model.perform(endless)
        await anext(events)
        assert (model.num_streams, model.engine.num_rows) == (1, 1)
        await events.aclose()
        await wait_until_idle(model)
        task = asyncio.create_task(read(model, endless))
        while not model.engine.num_rows:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_idle(model)

    asyncio.run(close())
    model.close()


def test_a_stream_that_nobody_reads_pauses(scripted_bundle: Write, manifest: Manifest):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1]), "cpu")

    async def read_slowly() -> None:
        events = model.perform(replace(REQUEST, max_codes=5000))
        await anext(events)
        (stream,), (row,) = model.steps.streams, model.engine.rows
        while not stream.is_ahead:
            await asyncio.sleep(0.001)
        held = row.num_positions
        await asyncio.sleep(0.2)
        assert row.num_positions <= held + 1  # A step may have been under way.
        assert stream.num_sent == 1 + MOST_AHEAD
        for _ in range(2 * MOST_AHEAD):
            await anext(events)
        assert row.num_positions > held + 1
        await events.aclose()

    asyncio.run(read_slowly())
    model.close()


def test_more_streams_than_rows_wait_in_turn_and_all_are_complete(tiny_bundle: Path):
    model = MotionModel(tiny_bundle, "cpu", max_rows=2)

    async def ask() -> list[list[Event]]:
        return await asyncio.gather(*(read(model, replace(REQUEST, seed=seed, max_codes=2)) for seed in range(7)))

    together = asyncio.run(ask())
    alone = [asyncio.run(read(model, replace(REQUEST, seed=seed, max_codes=2))) for seed in range(7)]
    assert [frames(events) for events in together] == [frames(events) for events in alone]
    model.close()


def test_a_stream_that_fails_ends_alone(model: MotionModel):
    async def ask() -> list[list[Event] | BaseException]:
        events = model.decode([3] * 50)
        await anext(events)
        (stream,) = model.steps.streams
        while not stream.is_ahead:
            await asyncio.sleep(0.001)
        broken = tuple(np.zeros((1, 3), np.float32) for _ in stream.state.states)
        stream.state = replace(stream.state, states=broken, row=0)  # As a defect would.
        good = asyncio.create_task(read(model, REQUEST))

        async def rest() -> list[Event]:
            return [event async for event in events]

        got = await asyncio.gather(good, rest(), return_exceptions=True)
        await wait_until_idle(model)
        return [*got]

    good, bad = asyncio.run(ask())
    assert isinstance(bad, BundleError)
    assert not isinstance(good, BaseException)
    assert frames(good) == frames(asyncio.run(read(model, REQUEST)))


def test_a_cancelled_stream_that_cannot_leave_ends_no_thread(
    scripted_bundle: Write, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1]), "cpu")
    leave, errors = model.engine.leave, iter([OSError("no room")])

    def fail_once(row: Row) -> None:
        leave(row)
        for error in errors:
            raise error

    async def cancel() -> list[Event]:
        events = model.perform(replace(REQUEST, max_codes=5000))
        await anext(events)
        monkeypatch.setattr(model.engine, "leave", fail_once)
        await events.aclose()
        await wait_until_idle(model)
        assert next(errors, None) is None
        return await asyncio.wait_for(read(model, REQUEST), timeout=20)

    assert len(frames(asyncio.run(cancel()))) == REQUEST.max_codes
    model.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_all_the_same_ends_its_streams_and_refuses_others(
    scripted_bundle: Write, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1]), "cpu")

    def fail(_: Row) -> None:
        raise OSError("no room")

    async def cancel() -> None:
        cancelled, other = (model.perform(replace(REQUEST, max_codes=5000, seed=seed)) for seed in range(2))
        await anext(cancelled)
        await anext(other)
        monkeypatch.setattr(model.engine, "leave", fail)
        await cancelled.aclose()
        with pytest.raises(RuntimeError, match="the model was closed"):
            async for _ in other:
                pass
        with pytest.raises(RuntimeError, match="the model is closed"):
            await anext(model.perform(REQUEST))

    asyncio.run(cancel())
    model.close()


def test_a_depth_head_that_fails_ends_the_streams_that_needed_it_and_no_other(
    model: MotionModel, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object) -> None:
        raise BundleError("depth_head.onnx: a run failed")

    monkeypatch.setattr(DepthHead, "speak", fails)

    async def given() -> list[Event]:
        return [event async for event in model.decode([3] * 40)]

    async def ask() -> list[list[Event] | BaseException]:
        return [*await asyncio.gather(given(), read(model, REQUEST), return_exceptions=True)]

    whole, failed = asyncio.run(ask())
    assert isinstance(failed, BundleError)
    assert not isinstance(whole, BaseException)
    assert len(frames(whole)) == 40


def test_a_model_that_is_closed_ends_its_streams_and_refuses_others(scripted_bundle: Write, manifest: Manifest):
    model = MotionModel(scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1]), "cpu")

    async def close() -> None:
        events = model.perform(replace(REQUEST, max_codes=5000))
        await anext(events)
        await asyncio.to_thread(model.close)
        with pytest.raises(RuntimeError, match="the model was closed"):
            async for _ in events:
                pass
        with pytest.raises(RuntimeError, match="the model is closed"):
            await anext(model.perform(REQUEST))

    asyncio.run(close())
