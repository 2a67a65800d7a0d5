import asyncio

import grpc
import pytest

from bridge.admission import Admission
from bridge.metrics import Metrics
from bridge.status import StatusError


def sample(metrics: Metrics, name: str) -> float:
    value = metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def test_who_waits_longest_comes_first_and_one_too_many_is_refused_at_once():
    metrics = Metrics()
    admission, order = Admission(max_streams=1, max_queue=2, max_wait_s=10, metrics=metrics), []

    async def run() -> None:
        async def hold(name: str, turn: asyncio.Event) -> None:
            async with admission.stream(name):
                order.append(name)
                await turn.wait()

        turns = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(hold(str(number), turn)) for number, turn in enumerate(turns)]
        await asyncio.sleep(0)
        assert (admission.num_streams, admission.num_waiting) == (1, 2)
        assert sample(metrics, "motion_queue_length") == 2
        with pytest.raises(StatusError, match="all 1 streams") as caught:
            async with admission.stream("late"):
                pass
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for turn in turns:
            turn.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert order == ["0", "1", "2"]
    assert (admission.num_streams, admission.num_waiting) == (0, 0)
    assert sample(metrics, "motion_streams_active") == 0
    assert sample(metrics, "motion_streams_refused_total") == 1


def test_a_wait_that_is_too_long_or_cancelled_leaves_the_queue():
    admission = Admission(max_streams=1, max_queue=2, max_wait_s=0.05, metrics=Metrics())

    async def wait() -> None:
        async with admission.stream("waits"):
            pass

    async def run() -> None:
        async with admission.stream("holds"):
            with pytest.raises(StatusError, match=r"in use for 0.05 s"):
                await wait()
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert admission.num_waiting == 0
        await wait()

    asyncio.run(run())
    assert admission.num_streams == 0


def test_a_place_that_comes_to_one_who_has_just_left_goes_to_the_next():
    admission = Admission(max_streams=1, max_queue=2, max_wait_s=10, metrics=Metrics())

    async def run() -> None:
        async def wait() -> str:
            async with admission.stream("waits"):
                return "served"

        async with admission.stream("holds"):
            first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
            await asyncio.sleep(0)
        first.cancel()  # Its turn has come, and it does not know yet.
        assert await second == "served"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())
    assert admission.num_streams == 0
