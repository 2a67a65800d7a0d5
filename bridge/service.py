"""The rpcs over a model in this process."""

import asyncio
import contextlib
import ctypes
import dataclasses
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2

from bridge import wire
from bridge.admission import Admission
from bridge.call import Call, Served
from bridge.config import MAX_REQUEST_BYTES, ServeConfig
from bridge.metrics import Metrics, StreamCounts
from bridge.pacing import Pacer, Pacing
from bridge.request import (
    MAX_BEST_OF,
    MAX_DECODE_CODES,
    MAX_HISTORY_CODES,
    MAX_LEAD_S,
    MAX_PROMPT_CODE_POINTS,
    Limits,
    MotionRequest,
    StreamRequest,
    read_decode_request,
    read_plan_request,
    read_stream_request,
)
from bridge.status import SERVICE, QualityError, StatusError, to_status, unavailable
from bridge.stream import Chunk, Event, MotionModel, Planned, Summary
from bridge.stubs import motion_pb2
from bridge.traces import Tracer
from python_core.contract.plan import MAX_BEATS, PlanError
from python_core.contract.vocabulary import ReplyError

logger = logging.getLogger(__name__)

_Answer = Callable[[Any, Call], AsyncGenerator[Message]]


@dataclass(eq=False)
class _Loaded:
    """A model and the streams that use it; the last of them closes it once another one has taken its place."""

    model: MotionModel
    described: motion_pb2.Model
    limits: Limits
    num_streams: int = 0
    replaced: bool = False


class MotionService:
    """A `Service` over one open model at a time. Until it has one, and while it drains, it answers UNAVAILABLE.

    Args:
        config: Limits, and what to log.
        metrics: What counts.

    Raises:
        ValueError: Traces are asked for, and OpenTelemetry is missing.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics) -> None:
        self._config, self._metrics = config, metrics
        self._admission = Admission(config.max_streams, config.max_queue, config.max_wait_s, metrics)
        self._tracer = Tracer() if config.traces else None
        self._loaded: _Loaded | None = None
        self._draining = False
        metrics.batch_rows.set_function(self._num_rows)
        self._calls: dict[str, tuple[type[Message], _Answer]] = {
            "GetModel": (motion_pb2.GetModelRequest, self._get_model),
            "PlanMotion": (motion_pb2.PlanMotionRequest, self._plan_motion),
            "StreamMotion": (motion_pb2.StreamMotionRequest, self._stream_motion),
            "DecodeMotion": (motion_pb2.DecodeMotionRequest, self._decode_motion),
        }

    @property
    def num_streams(self) -> int:
        """Streams that are running."""
        return self._admission.num_streams

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the rpcs."""
        return tuple(self._calls)

    @property
    def metrics(self) -> Metrics:
        """What this service counts."""
        return self._metrics

    async def load(self) -> Served:
        """Verify, open and warm up the bundle; new calls are served by it, running streams by what they began with.

        Raises:
            ValueError: As `open_model`.
        """
        return self.replace(await asyncio.to_thread(open_model, self._config))

    def replace(self, model: MotionModel) -> Served:
        """Serve a model, warmed up, from the next call on; the service closes its models."""
        limits = Limits(self._config.max_duration_s, model.code_duration_s, model.bundle.manifest.tokens.num_codes)
        old, self._loaded = self._loaded, _Loaded(model, wire.model(model), limits)
        self._metrics.ready.set(not self._draining)
        if old is not None:
            old.replaced = True
            if not old.num_streams:
                old.model.close()
        manifest = model.bundle.manifest
        return Served(manifest.model_id, model.bundle.revision, model.engine.provider, manifest.tokens.num_levels)

    def drain(self) -> None:
        """Take no new calls; running ones go on."""
        self._draining = True
        self._metrics.ready.set(0)

    def close(self) -> None:
        """Close the model; call it when no stream runs."""
        if self._loaded is not None:
            self._loaded.model.close()

    def _num_rows(self) -> int:
        return 0 if self._loaded is None else self._loaded.model.engine.num_rows

    def _ready(self) -> _Loaded:
        if self._loaded is not None and not self._draining:
            return self._loaded
        if self._draining:
            raise unavailable("this server is stopping", "DRAINING")
        raise unavailable("this server is loading its model", "LOADING")

    def call(
        self, method: str, data: bytes, caller: str = "", trace: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Message]:
        """As `Service.call`."""
        check_method(method, self.methods)
        kind, answer = self._calls[method]
        return answer(read_message(kind, data), Call(method, caller, trace or {}))

    async def _get_model(self, _: motion_pb2.GetModelRequest, call: Call) -> AsyncGenerator[Message]:
        yield motion_pb2.GetModelResponse(
            model=self._ready().described,
            limits=motion_pb2.Limits(
                max_prompt_code_points=MAX_PROMPT_CODE_POINTS,
                max_duration_s=self._config.max_duration_s,
                max_history_codes=MAX_HISTORY_CODES,
                max_decode_codes=MAX_DECODE_CODES,
                max_beats=MAX_BEATS,
                max_best_of=MAX_BEST_OF,
                max_lead_s=MAX_LEAD_S,
                max_request_bytes=MAX_REQUEST_BYTES,
                max_streams=self._config.max_streams,
                max_idle_s=self._config.max_idle_s,
            ),
        )

    async def _plan_motion(self, message: motion_pb2.PlanMotionRequest, call: Call) -> AsyncGenerator[Message]:
        with self._told(call, message.prompt):
            ready = self._ready()
            read_plan_request(message, ready.limits, ready.model.bundle.manifest.sampling)
            async with self._place(call) as loaded:
                request = read_plan_request(message, loaded.limits, loaded.model.bundle.manifest.sampling)
                planned = await loaded.model.plan(request)
                _note_plan(call, planned)
                response = motion_pb2.PlanMotionResponse(
                    plan=wire.plan(planned),
                    request_id=call.request_id,
                    num_reasoning_tokens=planned.num_tokens,
                )
            StreamCounts(self._metrics, message, 0, call.began_s).sent(response)
            call.ended = "planned"
            yield response

    async def _stream_motion(self, message: motion_pb2.StreamMotionRequest, call: Call) -> AsyncGenerator[Message]:
        with self._told(call, message.prompt):
            # Before a place is asked for: what cannot be served must not wait for one.
            ready = self._ready()
            read_stream_request(message, ready.limits, ready.model.bundle.manifest.sampling)
            async with self._place(call) as loaded:
                request = read_stream_request(message, loaded.limits, loaded.model.bundle.manifest.sampling)
                motion, num_takes = request.motion, 1
                header = wire.header(loaded.described, call.request_id, motion.seed, request.pacing)
                counts = self._counts(call, message, loaded)
                counts.sent(header)
                # The model works while the header is on its way.
                async with _begun(loaded.model.perform(motion)) as events:
                    yield motion_pb2.StreamMotionResponse(event=header)
                    if request.best_of > 1 or request.min_quality > 0:
                        motion, taken = await _best_take(loaded.model, request, events)
                        events, num_takes = _replay(taken), request.best_of
                    sent = self._send(call, loaded, events, request.pacing, counts, motion.seed, num_takes)
                    async with aclosing(sent):
                        async for event in sent:
                            yield motion_pb2.StreamMotionResponse(event=event)

    async def _decode_motion(self, message: motion_pb2.DecodeMotionRequest, call: Call) -> AsyncGenerator[Message]:
        with self._told(call, ""):
            read_decode_request(message, self._ready().limits)
            async with self._place(call) as loaded:
                request = read_decode_request(message, loaded.limits)
                events = loaded.model.decode(request.codes, request.history)
                header = wire.header(loaded.described, call.request_id, 0, request.pacing)
                counts = self._counts(call, message, loaded)
                counts.sent(header)
                yield motion_pb2.DecodeMotionResponse(event=header)
                async with aclosing(self._send(call, loaded, events, request.pacing, counts, 0, 0)) as sent:
                    async for event in sent:
                        yield motion_pb2.DecodeMotionResponse(event=event)

    async def _send(
        self,
        call: Call,
        loaded: _Loaded,
        events: AsyncGenerator[Event],
        pacing: Pacing,
        counts: StreamCounts,
        seed: int,
        num_takes: int,
    ) -> AsyncGenerator[motion_pb2.MotionEvent]:
        """The events of a motion as messages, each when it is due."""
        pacer, frame_rate_hz = Pacer(pacing), loaded.described.frame_rate_hz
        async with aclosing(events):
            async for event in events:
                match event:
                    case Planned():
                        _note_plan(call, event)
                        message = motion_pb2.MotionEvent(plan=wire.plan(event))
                    case Chunk():
                        await pacer.wait(event.first_frame / frame_rate_hz)
                        if not call.num_chunks:
                            call.note("first frame")
                        call.num_chunks += 1
                        message = wire.chunk(event)
                    case Summary():
                        call.ended = event.stop.value
                        message = wire.summary(event, counts.first_frame_ms, counts.last_frame_ms, seed, num_takes)
                counts.sent(message)
                yield message

    def _counts(self, call: Call, request: Message, loaded: _Loaded) -> StreamCounts:
        return StreamCounts(self._metrics, request, loaded.model.bundle.manifest.tokens.num_levels, call.began_s)

    @asynccontextmanager
    async def _place(self, call: Call) -> AsyncIterator[_Loaded]:
        """A place among the streams, and the model that serves it, which stays open until the stream ends."""
        async with self._admission.stream(call.request_id):
            self._metrics.streams_accepted.inc()
            call.note("admitted")
            loaded = self._ready()
            loaded.num_streams += 1
            try:
                yield loaded
            finally:
                loaded.num_streams -= 1
                if loaded.replaced and not loaded.num_streams:
                    loaded.model.close()

    @contextmanager
    def _told(self, call: Call, prompt: str) -> Iterator[None]:
        """Turn what fails into a status, and tell log and traces of the call when it ends."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            if call.ended == "cancelled":
                call.code = grpc.StatusCode.CANCELLED
                self._metrics.streams_cancelled.inc()
            raise
        except Exception as error:
            status = to_status(error, call.request_id)
            call.code = status.code
            call.ended = f"{status.code.name}: {status.message if self._config.log_prompts else _first_word(status)}"
            self._metrics.streams_failed.labels(status.code.name).inc()
            raise status from error
        finally:
            if self._tracer is not None:
                self._tracer.write(call)
            took_ms = 1000 * (time.monotonic() - call.began_s)
            fields = {
                "request_id": call.request_id,
                "method": call.method,
                "caller": call.caller,
                "chunks": call.num_chunks,
                "took_ms": round(took_ms, 1),
                "ended": call.ended,
            }
            if self._config.log_prompts:
                fields["prompt"] = prompt
            logger.info(
                "%s %s: %d chunks in %.0f ms, %s",
                call.method,
                call.request_id,
                call.num_chunks,
                took_ms,
                call.ended,
                extra={"call": fields},
            )


def check_method(method: str, known: Iterable[str]) -> None:
    """Refuse an rpc that there is not.

    Raises:
        StatusError: UNIMPLEMENTED.
    """
    if method not in known:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"{SERVICE} has no method {method}; it has {', '.join(known)}")


def read_message(kind: type[Message], data: bytes) -> Message:
    """The request that bytes are.

    Raises:
        StatusError: INVALID_ARGUMENT: they are none.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise StatusError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the {len(data)} bytes of the request are no {kind.DESCRIPTOR.full_name}; "
            f"this server speaks wire version {wire.WIRE_VERSION}",
        ) from error


def open_model(config: ServeConfig) -> MotionModel:
    """Verify, open and warm up a bundle.

    Raises:
        ValueError: It does not verify, its provider does not load, its codes are longer than motions may be.
    """
    model = MotionModel(config.bundle, config.provider, config.num_threads, max_rows=config.max_streams)
    try:
        model.warm_up()
        if not model.code_duration_s <= config.max_duration_s < math.inf:
            raise ValueError(
                f"--max-duration-s must be a number of seconds, {model.code_duration_s:g} or more, "
                f"got {config.max_duration_s:g}"
            )
    except BaseException:
        model.close()
        raise
    _give_back_memory()
    return model


def _give_back_memory() -> None:
    """Return to the system what loading has freed. Only glibc keeps so much, and only it has a call for this."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@asynccontextmanager
async def _begun(events: AsyncGenerator[Event]) -> AsyncIterator[AsyncGenerator[Event]]:
    """The same events, the first of them on its way before anybody asks; none is made any more when this ends."""
    first = asyncio.ensure_future(anext(events, None))
    await asyncio.sleep(0)  # So that it runs up to where it waits for the model.

    async def all_events() -> AsyncGenerator[Event]:
        event = await first
        while event is not None:
            yield event
            event = await anext(events, None)

    try:
        yield all_events()
    finally:
        first.cancel()
        await asyncio.wait([first])
        if not first.cancelled():
            first.exception()  # Whoever asked was told; if nobody did, nobody need be.
        await events.aclose()


async def _best_take(
    model: MotionModel, request: StreamRequest, first: AsyncGenerator[Event]
) -> tuple[MotionRequest, list[Event]]:
    """Make takes one after another and choose the one with the best score, the earliest where two are alike.

    A malformed reply is a take that is not chosen. The first take has begun.

    Raises:
        QualityError: The best is not good enough.
        PlanError, ReplyError: Every take is malformed; the last one's error.
    """
    best: tuple[MotionRequest, list[Event], Summary] | None = None
    failure: PlanError | ReplyError | None = None
    for number in range(request.best_of):
        motion = dataclasses.replace(request.motion, seed=(request.motion.seed + number) % 2**64)
        try:
            async with aclosing(model.perform(motion) if number else first) as events:
                taken = [event async for event in events]
        except (PlanError, ReplyError) as error:
            failure = error
            continue
        summary = taken[-1]
        assert isinstance(summary, Summary)
        if best is None or summary.quality.score > best[2].quality.score:
            best = motion, taken, summary
    if best is None:
        assert failure is not None
        raise failure
    motion, taken, summary = best
    if summary.quality.score < request.min_quality:
        raise QualityError(summary.quality, request.min_quality, request.best_of)
    return motion, taken


async def _replay(events: list[Event]) -> AsyncGenerator[Event]:
    for event in events:
        yield event


def _note_plan(call: Call, planned: Planned) -> None:
    call.note("plan", num_beats=len(planned.plan.beats), num_tokens=planned.num_tokens)


def _first_word(status: StatusError) -> str:
    """What a log may hold of a failure without words of the prompt: messages quote it."""
    reasons = [detail.reason for detail in status.details if isinstance(detail, error_details_pb2.ErrorInfo)]
    fields = [violation.field for detail in status.details for violation in getattr(detail, "field_violations", ())]
    return ", ".join([*reasons, *fields]) or "see the status"
