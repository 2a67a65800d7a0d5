"""How many streams run at once, and how many wait for one to end."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc

from bridge.metrics import Metrics
from bridge.status import RETRY_DELAY_S, StatusError, about, reason, retry_after

REFUSALS_AT_ONCE = 20
REFUSAL_PAUSE_S = 0.05
"""So many calls are refused at once, as a balancer wants; after them one in such a pause. A refusal costs the server
about a millisecond, which clients that ask again and again would take from the streams that run.
"""


class Admission:
    """A declared number of streams, and of calls that may wait for one of them in order.

    Health, reflection and GetModel need no admission: a server that is full is well, and says so.

    Args:
        max_streams: Streams at once.
        max_queue: Calls that wait; one more is refused.
        max_wait_s: How long a call waits before it is refused.
    """

    def __init__(self, max_streams: int, max_queue: int, max_wait_s: float, metrics: Metrics) -> None:
        self._max_streams, self._max_queue, self._max_wait_s = max_streams, max_queue, max_wait_s
        self._metrics = metrics
        self._num_streams = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._refuses_at_s = 0.0

    @property
    def num_streams(self) -> int:
        """Streams that run."""
        return self._num_streams

    @property
    def num_waiting(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def stream(self, request_id: str) -> AsyncGenerator[None]:
        """Hold a stream for as long as the context lasts.

        Raises:
            StatusError: RESOURCE_EXHAUSTED: all are in use, and the queue is full or the wait was too long.
        """
        if self._num_streams < self._max_streams:
            self._num_streams += 1
        elif len(self._waiting) < self._max_queue:
            await self._wait(request_id)
        else:
            raise await self._refuse(request_id, "")
        self._metrics.streams_active.set(self._num_streams)
        try:
            yield
        finally:
            self._pass_on()
            self._metrics.streams_active.set(self._num_streams)

    async def _wait(self, request_id: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._metrics.queue_length.set(len(self._waiting))
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
                return
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # The stream came together with the end of the wait.
                self._pass_on()
            if not isinstance(error, TimeoutError):
                raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self._metrics.queue_length.set(len(self._waiting))
        raise await self._refuse(request_id, f" for {self._max_wait_s:g} s")

    def _pass_on(self) -> None:
        """Give a stream to who has waited longest, or back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._num_streams -= 1

    async def _refuse(self, request_id: str, waited: str) -> StatusError:
        """The refusal, when its turn has come; nobody waits for that longer than until they may ask again."""
        now_s = asyncio.get_running_loop().time()
        first_s = now_s - REFUSALS_AT_ONCE * REFUSAL_PAUSE_S
        self._refuses_at_s = min(max(self._refuses_at_s, first_s) + REFUSAL_PAUSE_S, now_s + RETRY_DELAY_S)
        if self._refuses_at_s > now_s:
            await asyncio.sleep(self._refuses_at_s - now_s)
        self._metrics.streams_refused.inc()
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"all {self._max_streams} streams of this server are in use{waited}; try again in {RETRY_DELAY_S:g} s, "
            "ask another replica, or start it with a larger --max-streams",
            retry_after(RETRY_DELAY_S),
            reason("STREAMS_IN_USE", max_streams=str(self._max_streams), max_queue=str(self._max_queue)),
            about(request_id),
        )
