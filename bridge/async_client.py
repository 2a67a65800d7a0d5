"""The client for asyncio; `client.py` says what each call does."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

import grpc

from bridge import wire
from bridge.client import PATIENCE_S, Attempts, CallError, status_of
from bridge.connection import Connection
from bridge.stubs import motion_pb2, motion_pb2_grpc
from bridge.track import COMMIT_LEAD_S, Request, Track, steered
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
        self._connection = connection or Connection(addresses)
        self._patience_s = patience_s
        self._channels = self._connection.async_channels()
        self._stubs = [motion_pb2_grpc.MotionServiceStub(channel) for channel in self._channels]
        self._turn = 0

    async def __aenter__(self) -> "AsyncMotionClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; running calls are cancelled."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def get_model(self, timeout_s: float = 10.0) -> motion_pb2.GetModelResponse:
        """Ask what the server runs; raises as `MotionClient.get_model` does."""
        return await self._unary(lambda stub: stub.GetModel(motion_pb2.GetModelRequest(), **self._with(timeout_s)))

    async def plan(
        self,
        prompt: str,
        seed: int = 0,
        sampling: motion_pb2.Sampling | None = None,
        timeout_s: float | None = None,
    ) -> Plan:
        """The plan of a sentence; raises as `MotionClient.plan` does."""
        request = motion_pb2.PlanMotionRequest(prompt=prompt, seed=seed, sampling=sampling)
        response = await self._unary(lambda stub: stub.PlanMotion(request, **self._with(timeout_s)))
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
        ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        request: Request | None = track.request
        attempts = Attempts(len(self._stubs), self._patience_s)
        while True:
            left_s = None if ends_s is None else max(0.0, ends_s - time.monotonic())
            call = None
            try:
                if resumes:
                    response = await self._stub.GetModel(motion_pb2.GetModelRequest(), **self._with(10.0))
                    request = track.rest(response.limits.max_duration_s)
                    if request is None:
                        yield track.close()
                        return
                    track.resume(request)
                assert request is not None
                call = self._start(request, left_s)
                async for response in call:
                    event = track.feed(response.event)
                    attempts.succeed()
                    if event is not None:
                        yield event
                track.end()
                return
            except grpc.RpcError as error:
                resumes = track.header is not None
                if not attempts.again(status_of(error)[0], broke=resumes):
                    raise CallError(self._address, error) from error
            finally:
                if call is not None:
                    call.cancel()
            self._turn += 1
            await asyncio.sleep(attempts.pause_s)

    def _start(self, request: Request, timeout_s: float | None):
        if isinstance(request, motion_pb2.DecodeMotionRequest):
            return self._stub.DecodeMotion(request, **self._with(timeout_s))
        return self._stub.StreamMotion(request, **self._with(timeout_s))

    async def _unary(self, ask: Callable[[motion_pb2_grpc.MotionServiceStub], Awaitable[_T]]) -> _T:
        attempts = Attempts(len(self._stubs), self._patience_s)
        while True:
            try:
                return await ask(self._stub)
            except grpc.RpcError as error:
                if not attempts.again(status_of(error)[0], broke=False):
                    raise CallError(self._address, error) from error
            self._turn += 1

    @property
    def _stub(self) -> motion_pb2_grpc.MotionServiceStub:
        return self._stubs[self._turn % len(self._stubs)]

    @property
    def _address(self) -> str:
        return self._connection.addresses[self._turn % len(self._stubs)]

    def _with(self, timeout_s: float | None) -> dict:
        return {"timeout": timeout_s, "metadata": self._connection.metadata}
