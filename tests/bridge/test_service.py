import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from bridge import wire
from bridge.client import CallError, MotionClient, Received
from bridge.decoder import Decoder
from bridge.server import ServeConfig, running
from bridge.status import SERVICE, to_status
from bridge.stubs import motion_pb2, motion_pb2_grpc
from python_core.contract.bundle import BundleError, Manifest
from python_core.contract.skeleton import BODY_22

PROMPT = "a person walks"
PLAN = "1. walk forward, 0.6 s 2. wave (right arm), 0.4 s"
FOREVER_S = 2000.0

Write = Callable[[Sequence[int]], Path]
TextIds = Callable[[str], list[int]]


class Bridge(Protocol):
    """The running server of the fixtures."""

    grpc_address: str


@pytest.fixture(scope="module")
def stub(tiny_bridge: Bridge) -> Iterator[motion_pb2_grpc.MotionServiceStub]:
    with grpc.insecure_channel(tiny_bridge.grpc_address) as channel:
        yield motion_pb2_grpc.MotionServiceStub(channel)


@pytest.fixture
def endless(scripted_bundle: Write, manifest: Manifest) -> Iterator[str]:
    """Address of a server with one stream, whose motions last until they are stopped."""
    folder = scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1])
    config = ServeConfig(
        bundle=folder, port=0, web_port=None, provider="cpu", max_streams=1, max_duration_s=FOREVER_S, grace_s=0.1
    )
    with running(config) as server:
        yield server.grpc_address


def at_once(seed: int = 0, prompt: str = PROMPT, max_duration_s: float | None = None) -> motion_pb2.StreamMotionRequest:
    return motion_pb2.StreamMotionRequest(
        prompt=prompt, seed=seed, reasoning=motion_pb2.REASONING_OFF, max_duration_s=max_duration_s
    )


def refused(stub: motion_pb2_grpc.MotionServiceStub, request: motion_pb2.StreamMotionRequest) -> grpc.Call:
    """The call, which must fail without a word of Python."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.StreamMotion(request))
    assert isinstance(caught.value, grpc.Call)
    check_no_traceback(caught.value)
    return caught.value


def check_no_traceback(call: grpc.Call) -> None:
    told = f"{call.details()} {call.trailing_metadata()}"
    for word in ("Traceback", ".py", "line ", "object at 0x", "Exception"):
        assert word not in told, told


def details(call: grpc.Call, kind: type) -> list:
    status = rpc_status.from_call(call)
    assert status is not None
    found = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def chunk_bytes(stub: motion_pb2_grpc.MotionServiceStub, request: motion_pb2.StreamMotionRequest) -> list[bytes]:
    events = [response.event for response in stub.StreamMotion(request)]
    return [event.chunk.SerializeToString(deterministic=True) for event in events if event.HasField("chunk")]


def wait_until_free(address: str, within_s: float) -> None:
    """Ask until the server's only stream is free again."""
    deadline = time.monotonic() + within_s
    with MotionClient(address) as client:
        while (code := failure(lambda: next(client.stream(at_once())))) is not None:
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert time.monotonic() < deadline, "the stream is still in use"
            time.sleep(0.005)


def failure(call: Callable[[], object]) -> grpc.StatusCode | None:
    """The status that a call of the client fails with; None if it does not."""
    try:
        call()
    except CallError as error:
        return error.code
    return None


def test_get_model_describes_bundle_body_and_limits(
    stub: motion_pb2_grpc.MotionServiceStub, tiny_bundle: Path, manifest: Manifest
):
    response = stub.GetModel(motion_pb2.GetModelRequest())
    model = response.model
    assert model.model_id == json.loads((tiny_bundle / "manifest.json").read_text())["model_id"]
    assert len(model.revision) == 64
    assert model.language_model_provider == model.motion_decoder_provider == "CPUExecutionProvider"
    assert (model.frame_rate_hz, model.frames_per_code, model.num_codes) == (20, 4, manifest.tokens.num_codes)
    assert wire.read_skeleton(model.skeleton) == BODY_22
    assert model.skeleton.rest_root_height_m == pytest.approx(BODY_22.rest_root_height_m)
    assert (response.limits.max_prompt_code_points, response.limits.max_duration_s) == (1000, 10.0)


def test_frames_on_the_wire_are_those_of_the_whole_clip_to_1e_5(
    tiny_bridge: Bridge, tiny_bundle: Path, manifest: Manifest
):
    with MotionClient(tiny_bridge.grpc_address) as client:
        received = client.generate(at_once(seed=3))
    assert received.clip.codes is not None
    whole = Decoder(tiny_bundle, manifest, "cpu").decode_whole(received.clip.codes.tolist())
    motion = received.clip.motion
    assert motion.num_frames == received.summary.num_frames == whole.num_frames
    assert np.abs(motion.root_positions_m - whole.root_positions_m).max() < 1e-5
    assert np.abs(motion.joint_rotations - whole.joint_rotations).max() < 1e-5
    assert np.array_equal(motion.contacts, whole.contacts)
    assert 0 < received.summary.first_frame_ms <= received.summary.total_ms


def test_a_stream_is_the_same_alone_and_among_others_and_the_second_time(stub: motion_pb2_grpc.MotionServiceStub):
    requests = [at_once(seed=seed) for seed in range(6)]
    alone = [chunk_bytes(stub, request) for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda request: chunk_bytes(stub, request), requests))
    assert alone == together
    assert all(alone)


def test_with_reasoning_a_reply_moves_by_its_plan_or_is_aborted(tiny_bridge: Bridge):
    with MotionClient(tiny_bridge.grpc_address) as client:
        for seed in range(3):
            request = motion_pb2.StreamMotionRequest(prompt=PROMPT, seed=seed)
            received: list[Received] = []
            code = failure(lambda request=request, received=received: received.append(client.generate(request)))
            assert code in (None, grpc.StatusCode.ABORTED)
            for one in received:
                assert one.clip.plan is not None
                assert one.summary.duration_s <= max(0.2, one.clip.plan.duration_s + 0.1)


def test_a_plan_arrives_before_the_frames_with_its_beats(scripted_bundle: Write, manifest: Manifest, text_ids: TextIds):
    folder = scripted_bundle(manifest.tokens.reply_ids(text_ids(PLAN), [2] * 9))
    with (
        running(ServeConfig(bundle=folder, port=0, web_port=None)) as server,
        MotionClient(server.grpc_address) as client,
    ):
        request = motion_pb2.StreamMotionRequest(prompt=PROMPT, sampling=motion_pb2.Sampling(temperature=0))
        events = list(client.stream(request))
    assert [event.WhichOneof("event") for event in events] == ["header", "plan", *["chunk"] * 5, "summary"]
    plan = wire.read_plan(events[1].plan)
    assert [(beat.text, beat.duration_s, beat.body_parts) for beat in plan.beats] == [
        ("walk forward", 0.6, ()),
        ("wave", 0.4, ("right arm",)),
    ]
    assert events[1].plan.text == PLAN
    assert events[-1].summary.stop_reason == motion_pb2.STOP_REASON_PLAN_DURATION


def test_a_malformed_reply_is_aborted_with_what_came_and_without_a_frame(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds
):
    folder = scripted_bundle(manifest.tokens.reply_ids(text_ids("fly to the moon"), [2] * 9))
    config = ServeConfig(bundle=folder, port=0, web_port=None)
    with running(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        responses = motion_pb2_grpc.MotionServiceStub(channel).StreamMotion(
            motion_pb2.StreamMotionRequest(prompt=PROMPT, sampling=motion_pb2.Sampling(temperature=0))
        )
        assert next(responses).event.HasField("header")
        with pytest.raises(grpc.RpcError) as caught:
            next(responses)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert re.search("fly to the moon.*try another seed", str(caught.value.details()))
    check_no_traceback(caught.value)
    assert details(caught.value, error_details_pb2.ErrorInfo)[0].reason == "MALFORMED_REPLY"


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"prompt": ""}, "prompt", "got nothing"),
        ({"prompt": " \t\n\u3000"}, "prompt", "white space only"),
        ({"prompt": "a" * 2000}, "prompt", "at most 1000 code points, got 2000"),
        ({"prompt": "x" * 1001}, "prompt", "got 1001"),
        ({"prompt": "walk <Motion_3>"}, "prompt", "control token '<Motion_3>'"),
        ({"max_duration_s": 0.0}, "max_duration_s", "0.2 (one code) to 10 seconds, got 0"),
        ({"max_duration_s": 0.1}, "max_duration_s", "got 0.1"),
        ({"max_duration_s": -1.0}, "max_duration_s", "got -1"),
        ({"max_duration_s": 10.1}, "max_duration_s", "got 10.1"),
        ({"max_duration_s": float("nan")}, "max_duration_s", "got nan"),
        ({"max_duration_s": float("inf")}, "max_duration_s", "got inf"),
        ({"reasoning": 7}, "reasoning", "REASONING_ON (1), REASONING_OFF (2), got 7"),
        ({"sampling": motion_pb2.Sampling(temperature=2.5)}, "sampling.temperature", "0 to 2, got 2.5"),
        ({"sampling": motion_pb2.Sampling(temperature=float("nan"))}, "sampling.temperature", "got nan"),
        ({"sampling": motion_pb2.Sampling(top_p=0.0)}, "sampling.top_p", "more than 0 and at most 1, got 0"),
    ],
)
def test_a_request_outside_its_limits_is_refused_with_field_and_reason(
    stub: motion_pb2_grpc.MotionServiceStub, fields: dict, field: str, told: str
):
    call = refused(stub, motion_pb2.StreamMotionRequest(**{"prompt": PROMPT, **fields}))
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in call.details()
    violations = details(call, error_details_pb2.BadRequest)[0].field_violations
    assert [violation.field for violation in violations] == [field]
    assert details(call, error_details_pb2.RequestInfo)[0].request_id


def test_every_field_that_is_wrong_is_named_at_once(stub: motion_pb2_grpc.MotionServiceStub):
    request = motion_pb2.StreamMotionRequest(max_duration_s=99, sampling=motion_pb2.Sampling(top_p=2))
    violations = details(refused(stub, request), error_details_pb2.BadRequest)[0].field_violations
    assert [violation.field for violation in violations] == ["prompt", "max_duration_s", "sampling.top_p"]


def test_durations_that_float32_cannot_hold_are_whole_codes(tiny_bridge: Bridge):
    with MotionClient(tiny_bridge.grpc_address) as client:
        for num_codes in range(1, 9):
            summary = client.generate(at_once(max_duration_s=num_codes / 5)).summary
            assert summary.num_codes <= num_codes
            if summary.stop_reason == motion_pb2.STOP_REASON_MAX_DURATION:
                assert summary.num_codes == num_codes


def test_what_nobody_expected_is_logged_and_named_by_its_request_id_only(caplog: pytest.LogCaptureFixture):
    status = to_status(KeyError("secret"), "abc123")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "abc123" in status.message
    assert "secret" not in str(status.proto())
    assert "secret" in caplog.text


def test_a_bundle_that_turns_out_broken_is_internal_and_says_what_to_do():
    status = to_status(BundleError("the motion decoder wrote no motion; export the bundle again"), "abc123")
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.message == "the motion decoder wrote no motion; export the bundle again"


def test_one_stream_too_many_is_refused_with_a_delay_while_health_stays_serving(endless: str):
    with MotionClient(endless) as client, grpc.insecure_channel(endless) as channel:
        first = client.stream(at_once(max_duration_s=FOREVER_S))
        next(first)
        call = refused(motion_pb2_grpc.MotionServiceStub(channel), at_once())
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "all 1 streams" in call.details()
        assert details(call, error_details_pb2.RetryInfo)[0].retry_delay.seconds == 1
        with MotionClient(endless) as second, pytest.raises(CallError, match="RESOURCE_EXHAUSTED") as caught:
            next(second.stream(at_once()))
        assert caught.value.retry_delay_s == 1
        check = health_pb2_grpc.HealthStub(channel).Check  # pyright: ignore[reportAttributeAccessIssue], set at run time
        for service in ("", SERVICE):
            assert (
                check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING
            )
        first.close()
        wait_until_free(endless, within_s=5)


def test_cancelling_a_stream_frees_it_long_before_its_end(endless: str):
    with MotionClient(endless) as client:
        stream = client.stream(at_once(max_duration_s=FOREVER_S))
        for _ in range(5):
            next(stream)
        stream.close()
        wait_until_free(endless, within_s=2)


def test_a_deadline_ends_the_call_and_frees_the_stream(endless: str):
    with MotionClient(endless) as client:
        with pytest.raises(CallError) as caught:
            client.generate(at_once(max_duration_s=FOREVER_S), timeout_s=0.3)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until_free(endless, within_s=2)


def test_stopping_the_server_ends_streams_after_the_grace_period(scripted_bundle: Write, manifest: Manifest):
    folder = scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1])
    config = ServeConfig(bundle=folder, port=0, web_port=0, max_duration_s=FOREVER_S, grace_s=0.2)
    failures: list[CallError] = []

    def read(address: str) -> None:
        with MotionClient(address, patience_s=0) as client:
            try:
                client.generate(at_once(max_duration_s=FOREVER_S))
            except CallError as error:
                failures.append(error)

    with running(config) as server:
        reader = threading.Thread(target=read, args=[server.grpc_address])
        reader.start()
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    reader.join(5)
    assert [failure.code for failure in failures] in ([grpc.StatusCode.UNAVAILABLE], [grpc.StatusCode.CANCELLED])


def test_stopping_the_server_lets_a_stream_end_within_the_grace_period(scripted_bundle: Write, manifest: Manifest):
    folder = scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1])
    config = ServeConfig(bundle=folder, port=0, web_port=None, max_duration_s=FOREVER_S, grace_s=30)
    events: list[motion_pb2.MotionEvent] = []
    began = threading.Event()

    def read(address: str) -> None:
        with MotionClient(address) as client:
            for event in client.stream(at_once(max_duration_s=30.0)):
                events.append(event)
                began.set()

    with running(config) as server:
        reader = threading.Thread(target=read, args=[server.grpc_address])
        reader.start()
        assert began.wait(10)
    reader.join(10)
    assert events[-1].summary.num_codes == 150


def test_reflection_lists_the_service(tiny_bridge: Bridge):
    with grpc.insecure_channel(tiny_bridge.grpc_address) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        response = next(ask(iter([request])))  # pyright: ignore[reportCallIssue], set at run time
    names = {service.name for service in response.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


def test_the_server_listens_on_the_loopback_interface_only(tiny_bridge: Bridge):
    host, port = tiny_bridge.grpc_address.split(":")
    assert host == "127.0.0.1"
    with socket.socket() as other:  # All of 127.0.0.0/8 is this machine; only one address of it is served.
        assert other.connect_ex(("127.0.0.2", int(port))) != 0


def test_a_request_of_100_kb_is_refused(stub: motion_pb2_grpc.MotionServiceStub):
    assert refused(stub, at_once(prompt="a" * 100_000)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
