"""What the bridge counts, for Prometheus. The packages that count for gRPC do not know its asyncio API."""

import time
from collections.abc import Callable

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bridge.stubs import motion_pb2

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "motion_calls",
            "Calls that ended, health too.",
            ("transport", "method", "code"),
            registry=self.registry,
        )
        self.streams_active = Gauge("motion_streams_active", "Streams that hold a place.", registry=self.registry)
        self.queue_length = Gauge("motion_queue_length", "Calls that wait for a place.", registry=self.registry)
        self.streams_accepted = Counter("motion_streams_accepted", "Streams that got a place.", registry=self.registry)
        self.streams_refused = Counter("motion_streams_refused", "Streams that got none.", registry=self.registry)
        self.streams_cancelled = Counter(
            "motion_streams_cancelled", "Streams that their client or its deadline ended.", registry=self.registry
        )
        self.streams_failed = Counter(
            "motion_streams_failed", "Streams that ended in an error.", ("code",), registry=self.registry
        )
        self.first_frame_s = Histogram(
            "motion_first_frame_seconds",
            "From the arrival of a request to its first frame, waiting included.",
            ("reasoning",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.chunk_gap_s = Histogram(
            "motion_chunk_gap_seconds", "Between two chunks of a stream.", buckets=_SECONDS, registry=self.registry
        )
        self.underruns = Counter(
            "motion_underruns",
            "Times that a chunk was sent after a client that plays at once needed it.",
            registry=self.registry,
        )
        self.codes = Counter("motion_codes", "Codes that were sent as frames.", registry=self.registry)
        self.tokens = Counter(
            "motion_tokens",
            "Tokens of what was sent, as the language model wrote them.",
            ("kind",),
            registry=self.registry,
        )
        self.batch_rows = Gauge(
            "motion_batch_rows", "Rows of the running batch of the language model.", registry=self.registry
        )
        self.quality = Counter(
            "motion_quality", "Motions by the verdict on them.", ("verdict",), registry=self.registry
        )
        self.reloads = Counter(
            "motion_reloads", "Bundles that were loaded on SIGHUP.", ("outcome",), registry=self.registry
        )
        self.ready = Gauge(
            "motion_ready", "1 while requests are answered, 0 while loading and draining.", registry=self.registry
        )


class StreamCounts:
    """Counts what one call sends.

    Args:
        metrics: What counts.
        request: What was asked for.
        tokens_per_code: That the language model writes.
        began_s: When the request arrived, by the clock.
        clock: Seconds from anywhere.
    """

    def __init__(
        self,
        metrics: Metrics,
        request: Message,
        tokens_per_code: int,
        began_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics, self._began_s, self._clock = metrics, began_s, clock
        self._reasoning, self._tokens_per_code = "none", 0
        if isinstance(request, motion_pb2.StreamMotionRequest):
            at_once = request.reasoning == motion_pb2.REASONING_OFF
            self._reasoning = "given" if request.beats else "off" if at_once else "on"
            self._tokens_per_code = tokens_per_code
        self._frame_rate_hz = self._plays_since_s = self._last_s = 0.0
        self.first_frame_ms = self.last_frame_ms = 0.0
        self.complete = False
        """Whether the last message was sent."""

    def sent(self, message: motion_pb2.MotionEvent | motion_pb2.PlanMotionResponse) -> None:
        """Note that a message is about to be sent; of a stream every event, in order."""
        if isinstance(message, motion_pb2.PlanMotionResponse):
            self._metrics.tokens.labels("reasoning").inc(message.num_reasoning_tokens)
            self.complete = True
            return
        match message.WhichOneof("event"):
            case "header":
                self._frame_rate_hz = message.header.model.frame_rate_hz
            case "chunk":
                self._chunk(message.chunk.first_frame / self._frame_rate_hz)
            case "summary":
                self._metrics.tokens.labels("reasoning").inc(message.summary.num_reasoning_tokens)
                verdict = motion_pb2.Verdict.Name(message.summary.quality.verdict)
                self._metrics.quality.labels(verdict.removeprefix("VERDICT_").lower()).inc()
                self.complete = True

    def _chunk(self, first_frame_s: float) -> None:
        """One that begins at `first_frame_s` of the stream."""
        now_s = self._clock()
        self.last_frame_ms = 1000 * (now_s - self._began_s)
        if not self.first_frame_ms:
            self.first_frame_ms = self.last_frame_ms
            self._metrics.first_frame_s.labels(self._reasoning).observe(now_s - self._began_s)
            self._plays_since_s = now_s
        else:
            self._metrics.chunk_gap_s.observe(now_s - self._last_s)
            late_s = now_s - self._plays_since_s - first_frame_s
            if late_s > 0:
                self._metrics.underruns.inc()
                self._plays_since_s += late_s  # The client has held its last frame for so long.
        self._last_s = now_s
        self._metrics.codes.inc()
        if self._tokens_per_code:
            self._metrics.tokens.labels("motion").inc(self._tokens_per_code)
