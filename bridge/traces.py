"""Spans of calls, for OpenTelemetry: one a call, with its moments as events, over whatever transport it came.

They are written when a call ends, from what it noted on the way: the instrumentation that there is for gRPC and asyncio
takes no handlers that write by themselves, and would not know of plans and frames.
"""

import logging
from collections.abc import Callable

import grpc

from bridge.call import Call
from bridge.status import SERVICE

logger = logging.getLogger(__name__)

SERVICE_NAME = "motion-r1-bridge"
"""What this server is called in traces, unless OTEL_SERVICE_NAME says otherwise."""
_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""Ends that are a server's fault; the others are a client's, and no errors of its span.

Source: OpenTelemetry's semantic conventions for gRPC.
"""


def export() -> Callable[[], None]:
    """Send the spans of this process to a collector, over OTLP. The standard variables OTEL_* say where and which.

    Returns:
        What sends those that wait, and ends.

    Raises:
        ValueError: The packages are missing.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME as NAME
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ValueError(f"--traces needs OpenTelemetry ({error}); pip install '.[traces]'") from error
    resource = Resource({NAME: SERVICE_NAME}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


class Tracer:
    """Writes spans to the tracer provider of this process: that of `export`, or another one that a host has set."""

    def __init__(self) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ValueError(f"--traces needs OpenTelemetry ({error}); pip install '.[traces]'") from error
        self._trace, self._propagator = trace, TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("motion_r1.bridge")

    def write(self, call: Call) -> None:
        """Write the span of a call that has just ended."""
        trace = self._trace
        span = self._tracer.start_span(
            f"{SERVICE}/{call.method}",
            self._propagator.extract(call.trace),
            trace.SpanKind.SERVER,
            {
                "rpc.system": "grpc",
                "rpc.service": SERVICE,
                "rpc.method": call.method,
                "rpc.grpc.status_code": call.code.value[0],
                "motion.request_id": call.request_id,
                "motion.caller": call.caller,
                "motion.num_chunks": call.num_chunks,
            },
            start_time=call.began_ns,
        )
        for moment in call.moments:
            span.add_event(moment.name, dict(moment.numbers), moment.at_ns)
        if call.code in _FAULTS:
            span.set_status(trace.StatusCode.ERROR)
        span.end()
