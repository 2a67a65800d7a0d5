"""A client of the bridge: sends a sentence, checks what streams back, returns a clip."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType

import grpc
import numpy as np

from bridge import wire
from bridge.clip import Clip
from bridge.decoder import join
from bridge.stubs import motion_pb2, motion_pb2_grpc
from python_core.contract.motion import Motion
from python_core.contract.plan import Plan


class StreamError(ValueError):
    """A stream that is not complete, or not in order; says what was expected and what came."""


class CallError(ValueError):
    """A call that the server refused or could not finish."""

    def __init__(self, address: str, error: grpc.RpcError) -> None:
        assert isinstance(error, grpc.Call)
        self.code: grpc.StatusCode = error.code()
        remedy = "; is the bridge running there?" if self.code is grpc.StatusCode.UNAVAILABLE else ""
        super().__init__(f"{address}: {self.code.name}: {error.details()}{remedy}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Received:
    """A complete stream."""

    header: motion_pb2.StreamHeader
    clip: Clip
    summary: motion_pb2.StreamSummary
    first_frame_s: float
    """From sending the request to having the first frame."""


class MotionClient:
    """A connection to a bridge. Use it as a context manager."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address)
        self._stub = motion_pb2_grpc.MotionServiceStub(self._channel)

    def __enter__(self) -> "MotionClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def get_model(self, timeout_s: float = 10.0) -> motion_pb2.GetModelResponse:
        """Ask what the server runs.

        Raises:
            CallError: The server cannot be reached.
        """
        try:
            return self._stub.GetModel(motion_pb2.GetModelRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise CallError(self._address, error) from error

    def stream(
        self, request: motion_pb2.StreamMotionRequest, timeout_s: float | None = None
    ) -> Generator[motion_pb2.MotionEvent]:
        """The events of a request, checked for order and gaps as they come. Closing the iterator cancels the call.

        Raises:
            CallError: The server refused, or could not finish.
            StreamError: Events are missing or out of order.
        """
        call = self._stub.StreamMotion(request, timeout=timeout_s)
        try:
            events = (response.event for response in call)
            yield from check_events(events, plans=request.reasoning != motion_pb2.REASONING_OFF)
        except grpc.RpcError as error:
            raise CallError(self._address, error) from error
        finally:
            call.cancel()

    def generate(self, request: motion_pb2.StreamMotionRequest, timeout_s: float | None = None) -> Received:
        """Send a request and wait for the whole motion.

        Raises:
            CallError: The server refused, or could not finish.
            StreamError: Events are missing or out of order.
        """
        began = time.monotonic()
        header, summary, first_frame_s = motion_pb2.StreamHeader(), motion_pb2.StreamSummary(), 0.0
        plan: Plan | None = None
        parts: list[Motion] = []
        codes: list[int] = []
        for event in self.stream(request, timeout_s):
            match event.WhichOneof("event"):
                case "header":
                    header = event.header
                    skeleton = wire.read_skeleton(header.model.skeleton)
                case "plan":
                    plan = wire.read_plan(event.plan)
                case "chunk":
                    first_frame_s = first_frame_s or time.monotonic() - began
                    codes.append(event.chunk.code)
                    parts.append(wire.read_chunk(event.chunk, skeleton, header.model.frame_rate_hz))
                case "summary":
                    summary = event.summary
        clip = Clip(motion=join(parts), prompt=request.prompt, plan=plan, codes=np.array(codes, dtype=np.int64))
        return Received(header=header, clip=clip, summary=summary, first_frame_s=first_frame_s)


def check_events(events: Iterator[motion_pb2.MotionEvent], plans: bool) -> Iterator[motion_pb2.MotionEvent]:
    """Pass events on: header, plan if there is to be one, chunks without gaps, summary.

    Raises:
        StreamError: One is missing, out of order or does not fit the others.
    """
    begin = ("header", "plan") if plans else ("header",)
    num_codes = num_frames = 0
    complete = False
    for number, event in enumerate(events):
        kind = event.WhichOneof("event")
        if number < len(begin):
            expected = (begin[number],)
        elif complete:
            expected = ("the end",)
        else:
            expected = ("chunk", "summary") if num_codes else ("chunk",)
        if kind not in expected:
            raise StreamError(f"event {number} of the stream: expected {' or '.join(expected)}, got {kind}")
        if kind == "chunk":
            if event.chunk.first_frame != num_frames:
                raise StreamError(f"expected a chunk that begins at frame {num_frames}, got {event.chunk.first_frame}")
            num_codes += 1
            num_frames += len(event.chunk.contacts)
        elif kind == "summary":
            counted = (event.summary.num_codes, event.summary.num_frames)
            if counted != (num_codes, num_frames):
                raise StreamError(
                    f"the summary counts {counted[0]} codes and {counted[1]} frames, {num_codes} and {num_frames} came"
                )
            complete = True
        yield event
    if not complete:
        raise StreamError(f"the stream ended after {num_frames} frames without its summary; ask again")
