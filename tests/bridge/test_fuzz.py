"""Any request, and any bytes, end in a motion or in one clear status; afterwards the server is as it was."""

import functools
import http.client
import math
import socket
import struct
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from bridge.server import Running, ServeConfig, running
from bridge.status import SERVICE
from bridge.stubs import motion_pb2, motion_pb2_grpc

TOLD = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
FLOATS = st.floats(width=32) | st.sampled_from([0.0, 0.2, 0.4, 1.0, -0.0, math.inf, math.nan])
CODES = st.lists(st.integers(0, 7) | st.integers(-(2**63), 2**63 - 1), max_size=70)
TEXTS = st.text(max_size=30) | st.sampled_from(["walk", "sit down", "</think>", "<Motion_1>", "\0", "a" * 1001, "1. x"])
SAMPLING = st.none() | st.builds(motion_pb2.Sampling, temperature=st.none() | FLOATS, top_p=st.none() | FLOATS)
PLACES = st.none() | st.builds(motion_pb2.RootPlace, x_m=FLOATS, z_m=FLOATS, yaw_rad=FLOATS)
HISTORIES = st.none() | st.builds(motion_pb2.History, codes=CODES, root=PLACES)
PACINGS = st.none() | st.builds(motion_pb2.Pacing, mode=st.integers(-1, 3), max_lead_s=st.none() | FLOATS)
BEATS = st.lists(
    st.builds(
        motion_pb2.Beat,
        text=TEXTS,
        duration_s=FLOATS,
        body_parts=st.lists(st.sampled_from(["left arm", "head", "tail", ""]), max_size=3),
    ),
    max_size=6,
)
REQUESTS = {
    "StreamMotion": st.builds(
        motion_pb2.StreamMotionRequest,
        prompt=TEXTS,
        seed=st.integers(0, 2**64 - 1),
        reasoning=st.integers(-1, 4),
        max_duration_s=st.sampled_from([0.2, 0.4, 1.0]) | FLOATS,
        sampling=SAMPLING,
        beats=BEATS,
        history=HISTORIES,
        pacing=PACINGS,
        best_of=st.none() | st.integers(-1, 3) | st.integers(-(2**31), 2**31 - 1),
        min_quality=st.none() | FLOATS,
    ),
    "DecodeMotion": st.builds(motion_pb2.DecodeMotionRequest, codes=CODES, history=HISTORIES, pacing=PACINGS),
    "PlanMotion": st.builds(
        motion_pb2.PlanMotionRequest, prompt=TEXTS, seed=st.integers(0, 2**64 - 1), sampling=SAMPLING
    ),
}
RESPONSES = {
    "StreamMotion": motion_pb2.StreamMotionResponse,
    "DecodeMotion": motion_pb2.DecodeMotionResponse,
    "PlanMotion": motion_pb2.PlanMotionResponse,
}
SETTINGS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Running]:
    """A server that must be as free after all of this as before."""
    with running(ServeConfig(bundle=tiny_bundle, port=0, web_port=0, ops_port=0, max_duration_s=1.0)) as started:
        yield started
        with urllib.request.urlopen(f"http://{started.ops_address}/metrics", timeout=10) as response:
            samples = response.read().decode()
        assert "motion_streams_active 0.0" in samples
        assert "motion_queue_length 0.0" in samples
        assert 'code="UNKNOWN"' not in samples
        assert 'code="INTERNAL"' not in samples


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


def ask(channel: grpc.Channel, method: str, data: bytes) -> None:
    """Send bytes as a request, which must end as clients are told that requests end."""
    path, read = f"/{SERVICE}/{method}", RESPONSES[method].FromString
    failed, last = None, None
    try:
        if method == "PlanMotion":
            last = channel.unary_unary(path, None, read)(data, timeout=60)
        else:
            *_, last = channel.unary_stream(path, None, read)(data, timeout=60)
    except grpc.RpcError as error:
        failed = error
    if failed is None:
        assert last is not None
        assert last.plan.beats if method == "PlanMotion" else last.event.HasField("summary")
        return
    assert isinstance(failed, grpc.Call)
    assert failed.code() in TOLD, failed
    told = f"{failed.details()} {failed.trailing_metadata()}"
    for word in ("Traceback", ".py", "object at 0x"):
        assert word not in told


def check_serves(channel: grpc.Channel) -> None:
    model = motion_pb2_grpc.MotionServiceStub(channel).GetModel(motion_pb2.GetModelRequest(), timeout=10)
    assert model.limits.max_streams == 10


def raw(address: str, data: bytes) -> None:
    """Throw bytes at a port and hang up; whatever comes back is no business of ours."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.2)
        try:
            while connection.recv(4096):
                pass
        except OSError:  # It hung up first, or says nothing more.
            return


def web(server: Running, data: bytes, cut: int, flag: int) -> None:
    """Send a body of gRPC-Web that is cut, or whose prefix lies."""
    body = (struct.pack(">BI", flag, len(data)) + data)[: -cut or None]
    connection = http.client.HTTPConnection(str(server.web_address), timeout=60)
    connection.request("POST", f"/{SERVICE}/StreamMotion", body, {"content-type": "application/grpc-web+proto"})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200
    status = response.headers.get("grpc-status")
    if status is None:
        trailer = answer[answer.rindex(b"grpc-status: ") :]
        status = trailer.split(b"\r\n")[0].removeprefix(b"grpc-status: ").decode()
    assert int(status) in {0, *(code.value[0] for code in TOLD)}
    assert b"Traceback" not in answer


def fuzz(number: float, part: int, strategy: st.SearchStrategy, check: Callable[[Any], None]) -> None:
    """Check `number` examples of a strategy, others for each part."""

    @seed(part)
    @settings(max_examples=max(1, int(number)), **SETTINGS)  # pyright: ignore[reportArgumentType]
    @given(strategy)
    def run(example: object) -> None:
        check(example)

    run()


def fuzz_all(server: Running, channel: grpc.Channel, count: int, part: int) -> None:
    """`count` tries: half whole requests of every kind, the rest bytes in every disguise."""
    for method, share in (("StreamMotion", 0.3), ("DecodeMotion", 0.1), ("PlanMotion", 0.1)):
        strategy = REQUESTS[method].map(lambda message: message.SerializeToString())
        fuzz(share * count, part, strategy, functools.partial(ask, channel, method))
    garbage = st.tuples(st.sampled_from(sorted(RESPONSES)), st.binary(max_size=200))
    fuzz(0.2 * count, part, garbage, lambda pair: ask(channel, *pair))
    ports = st.sampled_from([server.grpc_address, str(server.web_address)])
    prefixes = st.sampled_from([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST / HTTP/1.1\r\n", b"\x16\x03\x01"])
    thrown = st.tuples(ports, prefixes, st.binary(max_size=300))
    fuzz(0.1 * count, part, thrown, lambda parts: raw(parts[0], parts[1] + parts[2]))
    valid = REQUESTS["StreamMotion"].map(lambda message: message.SerializeToString())
    frames = st.tuples(valid | st.binary(max_size=200), st.integers(0, 12), st.sampled_from([0, 0, 0, 1, 0x80, 255]))
    fuzz(0.2 * count, part, frames, lambda frame: web(server, *frame))
    check_serves(channel)


def test_500_tries_end_in_a_motion_or_one_clear_status(server: Running, channel: grpc.Channel):
    fuzz_all(server, channel, 500, part=0)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(1, 11))
def test_50_000_tries_end_in_a_motion_or_one_clear_status(server: Running, channel: grpc.Channel, part: int):
    """A tenth of them; each part has its own."""
    fuzz_all(server, channel, 5_000, part)
