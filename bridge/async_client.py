"""The client for asyncio; `client.py` says what each call does."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

import grpc

from bridge import wire
from bridge.connection import MODEL_TIMEOUT_S, PATIENCE_S, Attempts, Connection, Servers, StreamCalls
from bridge.stubs import motion_pb2
from bridge.track import COMMIT_LEAD_S, Track, steered
from python_core.contract.plan import Plan

_T = TypeVar("_T")


class AsyncMotionStream(AsyncIterator[motion_pb2.MotionEvent]):
    """The events of a call, checked for order and gaps as they come; `aclose` cancels it."""

    def __init__(self, track: Track, events: AsyncGenerator[motion_pb2.MotionEvent]) -> None:
        self.track = track
        self._events = events

    async def __anext__(self) -> motion_pb2.MotionEvent:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Cancel the call; what has come stays in `track`."""
        await self._events.aclose()


class AsyncMotionClient:
    """`MotionClient` for asyncio. Use it as an asynchronous context manager."""

    def __init__(self, *addresses: str, connection: Connection | None = None, patience_s: float = PATIENCE_S) -> None:
        connection = connection or Connection(addresses)
        self._patience_s = patience_s
        self._channels = connection.async_channels()
        self._servers = Servers(connection, self._channels)

    async def __aenter__(self) -> "AsyncMotionClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; running calls are cancelled."""
        self._servers.closed = True
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def get_model(self, timeout_s: float = MODEL_TIMEOUT_S) -> motion_pb2.GetModelResponse:
        """Ask what the server runs; raises as `MotionClient.get_model` does."""
        return await self._unary(lambda: self._servers.get_model(timeout_s))

    async def plan(
        self,
        prompt: str,
        seed: int = 0,
        sampling: motion_pb2.Sampling | None = None,
        timeout_s: float | None = None,
    ) -> Plan:
        """The plan of a sentence; raises as `MotionClient.plan` does."""
        request = motion_pb2.PlanMotionRequest(prompt=prompt, seed=seed, sampling=sampling)
        response = await self._unary(lambda: self._servers.plan(request, timeout_s))
        return wire.read_plan(response.plan)

    def stream(self, request: motion_pb2.StreamMotionRequest, timeout_s: float | None = None) -> AsyncMotionStream:
        """The motion of a sentence; raises as `MotionClient.stream` does."""
        return self._stream(Track(request), timeout_s)

    def decode(
        self,
        codes: Sequence[int],
        history: motion_pb2.History | None = None,
        pacing: motion_pb2.Pacing | None = None,
        timeout_s: float | None = None,
    ) -> AsyncMotionStream:
        """The motion of codes; raises as `MotionClient.decode` does."""
        return self._stream(
            Track(motion_pb2.DecodeMotionRequest(codes=codes, history=history, pacing=pacing)), timeout_s
        )

    async def steer(
        self,
        stream: AsyncMotionStream,
        playhead_s: float,
        request: motion_pb2.StreamMotionRequest,
        commit_lead_s: float = COMMIT_LEAD_S,
        timeout_s: float | None = None,
    ) -> AsyncMotionStream:
        """Give a character that moves a new order, as `MotionClient.steer` does."""
        track = steered(stream.track, playhead_s, request, commit_lead_s)
        await stream.aclose()
        return self._stream(track, timeout_s)

    def resume(self, track: Track, timeout_s: float | None = None) -> AsyncMotionStream:
        """Go on with a stream from the codes it has; raises as `MotionClient.resume` does."""
        return AsyncMotionStream(track, self._events(track, timeout_s, resumes=True))

    def _stream(self, track: Track, timeout_s: float | None) -> AsyncMotionStream:
        return AsyncMotionStream(track, self._events(track, timeout_s, resumes=False))

    async def _events(
        self, track: Track, timeout_s: float | None, resumes: bool
    ) -> AsyncGenerator[motion_pb2.MotionEvent]:
        calls = StreamCalls(self._servers, track, timeout_s, self._patience_s, resumes)
        while True:
            call = None
            try:
                limits = (await self._servers.get_model()).limits if calls.resumes else None
                call = calls.start(limits)
                if call is None:
                    yield track.close()
                    return
                async for response in call:
                    if (event := calls.feed(response)) is not None:
                        yield event
                track.end()
                return
            except grpc.RpcError as error:
                pause_s = calls.fail(error)
            finally:
                if call is not None:
                    call.cancel()
            await asyncio.sleep(pause_s)

    async def _unary(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        attempts = Attempts(self._servers, self._patience_s)
        while True:
            try:
                return await ask()
            except grpc.RpcError as error:
                attempts.fail(error)
