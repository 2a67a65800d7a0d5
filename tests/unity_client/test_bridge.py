"""The C# client and the real bridge: over gRPC-Web it gets, bit for bit, what Python gets over gRPC."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import grpc

from bridge.stubs import motion_pb2, motion_pb2_grpc

TIMEOUT_S = 60


class Bridge(Protocol):
    """A bridge that runs."""

    grpc_address: str
    web_address: str


def test_csharp_gets_the_same_frames_as_python(tiny_bridge: Bridge, run_nunit: Callable[..., str], tmp_path: Path):
    request = motion_pb2.StreamMotionRequest(prompt="a person walks forward", seed=20_251)
    (tmp_path / "request.bin").write_bytes(request.SerializeToString())
    with grpc.insecure_channel(tiny_bridge.grpc_address) as channel:
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        expected = [response.event for response in stub.StreamMotion(request, timeout=TIMEOUT_S)]

    printed = run_nunit(
        "MotionR1.Tests.BridgeTests",
        "MotionR1.Tests.NativeGrpcTests",
        MOTION_R1_GRPC_ADDRESS=tiny_bridge.grpc_address,
        MOTION_R1_WEB_ADDRESS=tiny_bridge.web_address,
        MOTION_R1_REQUEST_FILE=str(tmp_path / "request.bin"),
        MOTION_R1_EVENTS_FILE=str(tmp_path / "events.txt"),
    )
    assert "6 passed, 0 failed, 0 skipped" in printed
    lines = (tmp_path / "events.txt").read_text().split()
    received = [motion_pb2.MotionEvent.FromString(bytes.fromhex(line)) for line in lines]

    assert [event.WhichOneof("event") for event in received] == [event.WhichOneof("event") for event in expected]
    assert received[0].header.model == expected[0].header.model
    assert received[0].header.seed == request.seed
    frames = [event.SerializeToString() for event in received if event.HasField("chunk")]
    assert frames == [event.SerializeToString() for event in expected if event.HasField("chunk")]
    assert len(frames) == received[-1].summary.num_codes > 0
    plans = [[event.plan for event in events if event.HasField("plan")] for events in (received, expected)]
    assert plans[0] == plans[1]
    assert received[-1].summary.quality == expected[-1].summary.quality
    assert received[-1].summary.stop_reason == expected[-1].summary.stop_reason
