import asyncio

import grpc
import pytest

from bridge.admission import REFUSAL_PAUSE_S, REFUSALS_AT_ONCE, Admission
from bridge.metrics import Metrics
from bridge.status import RETRY_DELAY_S, StatusError


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


def test_who_asks_again_and_again_is_refused_at_a_pace_and_a_balancer_at_once():
    admission = Admission(max_streams=1, max_queue=0, max_wait_s=0, metrics=Metrics())

    async def refusals(number: int) -> tuple[int, list[float]]:
        """How many come at once, and how long each of the others waits."""
        loop, waited_s = asyncio.get_running_loop(), list[float]()
        began_s = loop.time()

        async def ask() -> None:
            with pytest.raises(StatusError, match="all 1 streams"):
                async with admission.stream("one too many"):
                    pass
            waited_s.append(loop.time() - began_s)

        tasks = [asyncio.create_task(ask()) for _ in range(number)]
        await asyncio.sleep(0)
        num_at_once = len(waited_s)
        await asyncio.gather(*tasks)
        return num_at_once, waited_s[num_at_once:]

    async def run() -> tuple[tuple[int, list[float]], tuple[int, list[float]]]:
        async with admission.stream("holds"):
            return await refusals(REFUSALS_AT_ONCE + 4), await refusals(1000)

    (num_at_once, others_s), (_, flood_s) = asyncio.run(run())
    assert num_at_once == REFUSALS_AT_ONCE
    for place, waited_s in enumerate(others_s, start=1):
        assert waited_s >= 0.99 * place * REFUSAL_PAUSE_S
    assert 0.99 * RETRY_DELAY_S <= max(flood_s) < 2 * RETRY_DELAY_S, "longer than until the next try nobody waits"
    assert (admission.num_streams, admission.num_waiting) == (0, 0)


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
