"""Spans of calls, as a collector gets them."""

import http.client
import os
import queue
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge.server import ServeConfig, running
from bridge.status import SERVICE
from bridge.stubs import motion_pb2, motion_pb2_grpc
from python_core.contract.bundle import Manifest

SECRET = "xyzzy"
TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}-01"
Write = Callable[[Sequence[int]], Path]


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """The process's own. It can be set once, and FastAPI, which Ray brings, may have done so."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    found = trace.get_tracer_provider()
    assert isinstance(found, TracerProvider)
    return found


@pytest.fixture
def exporter(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    processor = SimpleSpanProcessor(made)
    provider.add_span_processor(processor)
    yield made
    processor.shutdown()


def events(span: ReadableSpan) -> list[tuple[str, dict]]:
    """Of a span, in order of time, none outside it."""
    assert span.start_time is not None
    assert span.end_time is not None
    times = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
    assert times == sorted(times)
    return [(event.name, dict(event.attributes or {})) for event in span.events]


def test_a_span_goes_from_the_request_through_plan_and_first_frame_to_the_end_without_a_word_of_the_prompt(
    scripted_bundle: Write, manifest: Manifest, text_ids: Callable[[str], list[int]], exporter: InMemorySpanExporter
):
    reasoning = text_ids("1. walk, 0.4 s 2. wave, 0.4 s")
    folder = scripted_bundle(manifest.tokens.reply_ids(reasoning, [2] * 9))
    greedy = motion_pb2.Sampling(temperature=0)
    config = ServeConfig(bundle=folder, port=0, web_port=None, traces=True)
    with running(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        request = motion_pb2.StreamMotionRequest(prompt=SECRET, sampling=greedy)
        header, *_, summary = stub.StreamMotion(request, metadata=(("traceparent", TRACEPARENT),), timeout=30)
        stub.PlanMotion(motion_pb2.PlanMotionRequest(prompt=SECRET, sampling=greedy), timeout=30)
        list(stub.DecodeMotion(motion_pb2.DecodeMotionRequest(codes=[1, 2]), timeout=30))
    stream, plan, decoding = exporter.get_finished_spans()
    planned = ("plan", {"num_beats": 2, "num_tokens": len(reasoning)})
    assert stream.name == f"{SERVICE}/StreamMotion"
    assert stream.kind is trace.SpanKind.SERVER
    assert events(stream) == [("admitted", {}), planned, ("first frame", {})]
    assert events(plan) == [("admitted", {}), planned]
    assert events(decoding) == [("admitted", {}), ("first frame", {})]
    assert stream.attributes is not None
    assert stream.attributes["rpc.grpc.status_code"] == 0
    assert stream.attributes["motion.num_chunks"] == summary.event.summary.num_codes
    assert stream.attributes["motion.request_id"] == header.event.header.request_id
    assert stream.context is not None
    assert stream.context.trace_id == TRACE
    assert stream.parent is not None
    assert stream.parent.span_id == PARENT
    assert plan.parent is None
    assert not any(SECRET in span.to_json() for span in (stream, plan, decoding))


def test_calls_that_fail_are_cancelled_or_come_over_grpc_web_have_their_spans_too(
    endless_bundle: Path, exporter: InMemorySpanExporter
):
    config = ServeConfig(bundle=endless_bundle, port=0, web_port=0, traces=True, max_duration_s=2000.0)
    endless = motion_pb2.StreamMotionRequest(
        prompt="walk", reasoning=motion_pb2.REASONING_OFF, max_duration_s=2000.0, seed=1
    )
    with running(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.PlanMotion(motion_pb2.PlanMotionRequest(prompt=f"{SECRET} <think>"), timeout=30)
        call = stub.StreamMotion(endless)
        next(call)
        call.cancel()
        data = motion_pb2.DecodeMotionRequest(codes=[1]).SerializeToString()
        connection = http.client.HTTPConnection(str(server.web_address), timeout=30)
        connection.request(
            "POST",
            f"/{SERVICE}/DecodeMotion",
            struct.pack(">BI", 0, len(data)) + data,
            {"content-type": "application/grpc-web+proto", "traceparent": TRACEPARENT},
        )
        connection.getresponse().read()
        connection.close()
    spans = {str((span.attributes or {})["rpc.method"]): span for span in exporter.get_finished_spans()}
    codes = {method: (span.attributes or {})["rpc.grpc.status_code"] for method, span in spans.items()}
    assert codes == {"PlanMotion": 3, "StreamMotion": 1, "DecodeMotion": 0}
    assert events(spans["PlanMotion"]) == [("admitted", {})]
    assert spans["DecodeMotion"].context is not None
    assert spans["DecodeMotion"].context.trace_id == TRACE
    # None is the server's fault.
    assert {span.status.status_code for span in spans.values()} == {trace.StatusCode.UNSET}
    assert SECRET not in spans["PlanMotion"].to_json()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What the bridge sends its spans to."""

    def __init__(self) -> None:
        self.received: queue.SimpleQueue[trace_service_pb2.ExportTraceServiceRequest] = queue.SimpleQueue()

    def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext):
        self.received.put(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def test_serve_sends_spans_where_the_environment_says_and_keeps_none_back_when_it_stops(tiny_bundle: Path):
    collector, endpoint = Collector(), grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, endpoint)
    port = endpoint.add_insecure_port("127.0.0.1:0")
    endpoint.start()
    command = [sys.executable, "-m", "bridge", "serve", str(tiny_bundle), "--port", "0", "--web-port", "0", "--traces"]
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"gRPC (\S+),", process.stdout.readline())
        assert found
        with grpc.insecure_channel(found[1]) as channel:
            stub = motion_pb2_grpc.MotionServiceStub(channel)
            list(stub.DecodeMotion(motion_pb2.DecodeMotionRequest(codes=[1, 2]), timeout=30))
        process.terminate()
        assert process.wait(30) == 0
    resource_spans = collector.received.get(timeout=10).resource_spans[0]
    endpoint.stop(None)
    resource = {attribute.key: attribute.value.string_value for attribute in resource_spans.resource.attributes}
    assert resource["service.name"] == "motion-r1-bridge"
    assert resource["deployment.environment.name"] == "test"
    (span,) = resource_spans.scope_spans[0].spans
    assert span.name == f"{SERVICE}/DecodeMotion"
    assert [event.name for event in span.events] == ["admitted", "first frame"]
