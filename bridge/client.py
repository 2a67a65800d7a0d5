"""A client of the bridge: sends a sentence, checks what streams back, steers it, goes on where a stream broke."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import grpc
import numpy as np

from bridge import wire
from bridge.clip import Clip
from bridge.connection import MODEL_TIMEOUT_S, PATIENCE_S, Attempts, CallError, Connection, Servers, StreamCalls
from bridge.stubs import motion_pb2
from bridge.track import COMMIT_LEAD_S, StreamError, Track, check_events, steered
from python_core.contract.plan import Plan

__all__ = ["CallError", "MotionClient", "MotionStream", "Received", "StreamError", "check_events"]

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, kw_only=True)
class Received:
    """A complete stream."""

    header: motion_pb2.StreamHeader
    clip: Clip
    summary: motion_pb2.StreamSummary
    first_frame_s: float
    """From sending the request to having the first frame."""


class MotionStream(Iterator[motion_pb2.MotionEvent]):
    """The events of a call, checked for order and gaps as they come; `close` cancels it."""

    def __init__(self, track: Track, events: Generator[motion_pb2.MotionEvent]) -> None:
        self.track = track
        self._events = events

    def __next__(self) -> motion_pb2.MotionEvent:
        return next(self._events)

    def close(self) -> None:
        """Cancel the call; what has come stays in `track`."""
        self._events.close()


class MotionClient:
    """A connection to one bridge, or to several that run the same bundle. Use it as a context manager.

    A server that is not there, is full or drains sends a new call on to the next one. A stream that breaks is taken up
    again from its codes, for `patience_s`: no frame is lost and none comes twice.
    """

    def __init__(self, *addresses: str, connection: Connection | None = None, patience_s: float = PATIENCE_S) -> None:
        connection = connection or Connection(addresses)
        self._patience_s = patience_s
        self._channels = connection.channels()
        self._servers = Servers(connection, self._channels)

    def __enter__(self) -> "MotionClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        self._servers.closed = True
        for channel in self._channels:
            channel.close()

    def get_model(self, timeout_s: float = MODEL_TIMEOUT_S) -> motion_pb2.GetModelResponse:
        """Ask what the server runs.

        Raises:
            CallError: The server cannot be reached.
        """
        return self._unary(lambda: self._servers.get_model(timeout_s))

    def plan(
        self,
        prompt: str,
        seed: int = 0,
        sampling: motion_pb2.Sampling | None = None,
        timeout_s: float | None = None,
    ) -> Plan:
        """The plan of a sentence, to read and to edit; a request takes it as `beats=wire.beats(plan)`.

        Raises:
            CallError: The server refused, or could not finish.
        """
        request = motion_pb2.PlanMotionRequest(prompt=prompt, seed=seed, sampling=sampling)
        return wire.read_plan(self._unary(lambda: self._servers.plan(request, timeout_s)).plan)

    def stream(self, request: motion_pb2.StreamMotionRequest, timeout_s: float | None = None) -> MotionStream:
        """The motion of a sentence.

        Raises:
            CallError: The server refused, or could not finish (while iterating).
            StreamError: Events are missing or out of order (while iterating).
        """
        return self._stream(Track(request), timeout_s)

    def decode(
        self,
        codes: Sequence[int],
        history: motion_pb2.History | None = None,
        pacing: motion_pb2.Pacing | None = None,
        timeout_s: float | None = None,
    ) -> MotionStream:
        """The motion of codes: replays, saved games, other players.

        Raises:
            CallError: The server refused, or could not finish (while iterating).
            StreamError: Events are missing or out of order (while iterating).
        """
        request = motion_pb2.DecodeMotionRequest(codes=codes, history=history, pacing=pacing)
        return self._stream(Track(request), timeout_s)

    def steer(
        self,
        stream: MotionStream,
        playhead_s: float,
        request: motion_pb2.StreamMotionRequest,
        commit_lead_s: float = COMMIT_LEAD_S,
        timeout_s: float | None = None,
    ) -> MotionStream:
        """Give a character that moves a new order. The old stream is closed.

        The new one begins at the commit point, `new.track.starts_at_s` on the character's own time line: play the old
        frames up to there. They are in `stream.track`.

        Args:
            stream: What it does now.
            playhead_s: What is shown now, on the character's own time line.
            request: What it shall do; its history is filled in.
            commit_lead_s: What the order and its first frame need to arrive.
            timeout_s: Of the new call.

        Raises:
            ValueError: The lead is negative.
        """
        track = steered(stream.track, playhead_s, request, commit_lead_s)
        stream.close()
        return self._stream(track, timeout_s)

    def resume(self, track: Track, timeout_s: float | None = None) -> MotionStream:
        """Go on with a stream that was closed or broke for good, perhaps on another client, from the codes it has.

        The events are those that are missing.

        Raises:
            CallError: The server refused, or could not finish (while iterating).
            StreamError: Events are missing, out of order or come from another bundle (while iterating).
        """
        return MotionStream(track, self._events(track, timeout_s, resumes=True))

    def generate(self, request: motion_pb2.StreamMotionRequest, timeout_s: float | None = None) -> Received:
        """Send a request and wait for the whole motion.

        Raises:
            CallError: The server refused, or could not finish.
            StreamError: Events are missing or out of order.
        """
        began, first_frame_s = time.monotonic(), 0.0
        stream = self.stream(request, timeout_s)
        for event in stream:
            if event.HasField("chunk"):
                first_frame_s = first_frame_s or time.monotonic() - began
        track = stream.track
        assert track.header is not None
        assert track.summary is not None
        codes = np.array(track.codes, dtype=np.int64)
        clip = Clip(motion=track.motion, prompt=request.prompt, plan=track.plan, codes=codes)
        return Received(header=track.header, clip=clip, summary=track.summary, first_frame_s=first_frame_s)

    def _stream(self, track: Track, timeout_s: float | None) -> MotionStream:
        return MotionStream(track, self._events(track, timeout_s, resumes=False))

    def _events(self, track: Track, timeout_s: float | None, resumes: bool) -> Generator[motion_pb2.MotionEvent]:
        calls = StreamCalls(self._servers, track, timeout_s, self._patience_s, resumes)
        while True:
            call = None
            try:
                limits = self._servers.get_model().limits if calls.resumes else None
                call = calls.start(limits)
                if call is None:
                    yield track.close()
                    return
                for response in call:
                    if (event := calls.feed(response)) is not None:
                        yield event
                track.end()
                return
            except grpc.RpcError as error:
                pause_s = calls.fail(error)
            finally:
                if call is not None:
                    call.cancel()
            time.sleep(pause_s)

    def _unary(self, ask: Callable[[], _T]) -> _T:
        attempts = Attempts(self._servers, self._patience_s)
        while True:
            try:
                return ask()
            except grpc.RpcError as error:
                attempts.fail(error)
