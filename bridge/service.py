"""The rpcs, without a transport: messages in, messages out, failures as a `StatusError`."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from bridge import wire
from bridge.request import MAX_PROMPT_CODE_POINTS, Limits, RequestError, Violation, read_request
from bridge.stream import Chunk, MotionModel, Planned
from bridge.stubs import motion_pb2
from python_core.contract.bundle import BundleError
from python_core.contract.plan import PlanError
from python_core.contract.prompt import PromptError
from python_core.contract.vocabulary import ReplyError

logger = logging.getLogger(__name__)

SERVICE = motion_pb2.DESCRIPTOR.services_by_name["MotionService"].full_name
RETRY_DELAY_S = 1
MAX_QUOTED = 300
"""Characters of a malformed reply that an error quotes."""


_Call = Callable[[Any], AsyncGenerator[Message]]


class StatusError(Exception):
    """A call that failed, as gRPC says it: a code, one clear sentence, typed details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def proto(self) -> status_pb2.Status:
        """As it travels in the trailer `grpc-status-details-bin`."""
        packed = []
        for detail in self.details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)


class MotionService:
    """GetModel and StreamMotion over one open model.

    Args:
        model: The model, warmed up.
        max_duration_s: Longest motion that a request may ask for.
        max_streams: Streams at once; one more is refused.
    """

    def __init__(self, model: MotionModel, max_duration_s: float, max_streams: int) -> None:
        self._model, self._max_streams = model, max_streams
        self._limits = Limits(max_duration_s, model.code_duration_s)
        self._num_streams = 0
        self._described = wire.model(model)
        self._calls: dict[str, tuple[type[Message], _Call]] = {
            "GetModel": (motion_pb2.GetModelRequest, self._get_model),
            "StreamMotion": (motion_pb2.StreamMotionRequest, self._stream_motion),
        }

    @property
    def num_streams(self) -> int:
        """Streams that are running."""
        return self._num_streams

    def close(self) -> None:
        """Close the model; call it when no stream runs."""
        self._model.close()

    def call(self, method: str, data: bytes) -> AsyncGenerator[Message]:
        """The responses of an rpc. Closing or cancelling them stops the work within one step.

        Args:
            method: Name of the rpc.
            data: The request, serialised.

        Raises:
            StatusError: The call failed, at once or while iterating; nothing else leaves here but cancellation.
        """
        if method not in self._calls:
            known = ", ".join(self._calls)
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{SERVICE} has no method {method}; it has {known}")
        kind, answer = self._calls[method]
        try:
            message = kind.FromString(data)
        except DecodeError as error:
            raise StatusError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the {len(data)} bytes of the request are no {kind.DESCRIPTOR.full_name}; "
                f"this server speaks wire version {wire.WIRE_VERSION}",
            ) from error
        return answer(message)

    async def _get_model(self, _: motion_pb2.GetModelRequest) -> AsyncGenerator[motion_pb2.GetModelResponse]:
        yield motion_pb2.GetModelResponse(
            model=self._described,
            limits=motion_pb2.Limits(
                max_prompt_code_points=MAX_PROMPT_CODE_POINTS, max_duration_s=self._limits.max_duration_s
            ),
        )

    async def _stream_motion(
        self, message: motion_pb2.StreamMotionRequest
    ) -> AsyncGenerator[motion_pb2.StreamMotionResponse]:
        began, request_id = time.monotonic(), uuid.uuid4().hex[:12]
        if self._num_streams >= self._max_streams:
            raise self._full(request_id)
        self._num_streams += 1
        num_chunks, ended = 0, "cancelled"
        try:
            request = read_request(message, self._limits, self._model.bundle.manifest.sampling)
            events = self._model.perform(request)
            yield wire.header(self._described, request_id, request.seed)
            first_frame_ms = last_frame_ms = 0.0
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Planned):
                        yield wire.plan(event)
                    elif isinstance(event, Chunk):
                        last_frame_ms = 1000 * (time.monotonic() - began)
                        first_frame_ms = first_frame_ms or last_frame_ms
                        num_chunks += 1
                        yield wire.chunk(event)
                    else:
                        ended = event.stop.value
                        yield wire.summary(event, first_frame_ms, last_frame_ms)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            status = to_status(error, request_id)
            ended = f"{status.code.name}: {status.message}"
            raise status from error
        finally:
            self._num_streams -= 1
            logger.info(
                "stream %s: %d chunks in %.0f ms, %s", request_id, num_chunks, 1000 * (time.monotonic() - began), ended
            )

    def _full(self, request_id: str) -> StatusError:
        return StatusError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"all {self._max_streams} streams of this server are in use; try again in {RETRY_DELAY_S} s "
            "or start it with a larger --max-streams",
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=RETRY_DELAY_S)),
            error_details_pb2.RequestInfo(request_id=request_id),
        )


def to_status(error: Exception, request_id: str) -> StatusError:
    """What a client is told of a failure. What nobody expected is logged, and named by the request's id only."""
    about = error_details_pb2.RequestInfo(request_id=request_id)
    if isinstance(error, PromptError):
        error = RequestError([Violation("prompt", str(error))])
    if isinstance(error, RequestError):
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        bad_request = error_details_pb2.BadRequest(field_violations=fields)
        return StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(error), bad_request, about)
    if isinstance(error, PlanError | ReplyError):
        # ABORTED, not INTERNAL: the server is well and another seed may succeed; not UNAVAILABLE, which clients
        # repeat unchanged, and the same seed fails again.
        return StatusError(
            grpc.StatusCode.ABORTED,
            f"the model's reply is malformed ({_cut(str(error))}); try another seed, other words or REASONING_OFF",
            error_details_pb2.ErrorInfo(reason="MALFORMED_REPLY", domain=SERVICE),
            about,
        )
    if isinstance(error, BundleError):
        logger.error("stream %s: %s", request_id, error)
        return StatusError(grpc.StatusCode.INTERNAL, str(error), about)
    logger.error("stream %s: internal error", request_id, exc_info=error)
    return StatusError(
        grpc.StatusCode.INTERNAL, f"internal error; the server's log has it under request id {request_id}", about
    )


def _cut(text: str) -> str:
    """Trailers hold a few kilobytes, a model's reply may hold more."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
