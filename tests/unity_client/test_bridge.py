"""The C# client and the real bridge: over gRPC-Web and over HTTP/2 it gets, bit for bit, what Python gets."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

import grpc
import numpy as np
import pytest

from bridge.server import DEFAULT_BUNDLE, ServeConfig, running
from bridge.stubs import motion_pb2, motion_pb2_grpc

TIMEOUT_S = 60
PROMPT = "a person walks forward."
CALLS = ("MotionR1.Tests.BridgeCallsTests(False)", "MotionR1.Tests.BridgeCallsTests(True)")
KILLED = "AStreamGoesOnAfterTheServerWasKilledAndStartedAgain"


class Bridge(Protocol):
    """A bridge that runs."""

    grpc_address: str
    web_address: str


@dataclass
class Served:
    """A bridge with the default bundle."""

    grpc_address: str
    web_address: str


@pytest.fixture(scope="module")
def default_bridge() -> Iterator[Bridge]:
    """A model that plans well enough for what is asked of it here, which the tiny one may not."""
    with running(ServeConfig(bundle=DEFAULT_BUNDLE, port=0, web_port=0)) as server:
        assert server.web_address is not None
        yield Served(server.grpc_address, f"http://{server.web_address}")


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
    assert "6 passed, 0 failed, 0 skipped" in printed, printed
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


def test_every_call_works_over_both_transports_and_frames_are_pythons(
    default_bridge: Bridge, run_nunit: Callable[..., str], tmp_path: Path
):
    expected: dict[str, list[str]] = {}
    with grpc.insecure_channel(default_bridge.grpc_address) as channel:
        stub = motion_pb2_grpc.MotionServiceStub(channel)

        def ask(name: str, request: motion_pb2.StreamMotionRequest | motion_pb2.DecodeMotionRequest) -> list:
            call = stub.DecodeMotion if name == "decode" else stub.StreamMotion
            events = [response.event for response in call(request, timeout=TIMEOUT_S)]
            chunks = [event.chunk for event in events if event.HasField("chunk")]
            (tmp_path / f"{name}.request").write_bytes(request.SerializeToString())
            expected[name] = [chunk.SerializeToString().hex() for chunk in chunks]
            return chunks

        plan = stub.PlanMotion(motion_pb2.PlanMotionRequest(prompt=PROMPT, seed=3), timeout=TIMEOUT_S).plan
        chunks = ask("planned", motion_pb2.StreamMotionRequest(prompt=PROMPT, seed=3, beats=plan.beats))
        codes = [chunk.code for chunk in chunks]
        half = len(codes) // 2
        history = motion_pb2.History(codes=codes[:half], root=chunks[half - 1].next_root)
        ask("steered", motion_pb2.StreamMotionRequest(prompt="a person does a squat.", seed=4, history=history))
        ask("decode", motion_pb2.DecodeMotionRequest(codes=codes[half:], history=history))
    decoded = [motion_pb2.FrameChunk.FromString(bytes.fromhex(frames)) for frames in expected["decode"]]
    assert [chunk.code for chunk in decoded] == codes[half:]
    # A history is replayed several codes at a time, which rounds elsewhere.
    for field, tolerance in (("root_positions_m", 1e-5), ("joint_rotations", 1e-4)):
        values, wanted = (np.concatenate([np.frombuffer(getattr(one, field), "<f4") for one in found])
                          for found in (decoded, chunks[half:]))  # fmt: skip
        assert np.allclose(values, wanted, rtol=0, atol=tolerance), field

    printed = run_nunit(
        *CALLS,
        "MotionR1.Tests.WindowTests",
        "MotionR1.Tests.DrawingTests",
        MOTION_R1_GRPC_ADDRESS=default_bridge.grpc_address,
        MOTION_R1_WEB_ADDRESS=default_bridge.web_address,
        MOTION_R1_CALLS_FOLDER=str(tmp_path),
        MOTION_R1_KILL_FOLDER="",
        MOTION_R1_DRAWING_FOLDER=str(tmp_path),
    )
    assert "20 passed, 0 failed, 2 skipped" in printed, printed
    # The documentation's pictures: unity_client/Documentation~ has copies of them.
    for picture in ("window.svg", "rigs.svg"):
        drawn = ElementTree.parse(tmp_path / picture).getroot()
        assert len(drawn) > 100, picture
    for name, frames in expected.items():
        assert frames, name
        for transport in ("web", "native"):
            assert (tmp_path / f"{name}.request.{transport}").read_text().split() == frames, (name, transport)


@contextmanager
def serving(bundle: Path, port: str = "0", web_port: str = "0") -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A bridge as a process of its own, with its gRPC and gRPC-Web ports; killed at the end."""
    command = [sys.executable, "-m", "bridge", "serve", str(bundle), "--port", port, "--web-port", web_port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"gRPC [\d.]+:(\d+), gRPC-Web http://[\d.]+:(\d+)", line)
            assert found, f"the bridge did not start: {line!r}"
            yield process, list(found.groups())
        finally:
            process.kill()


def test_a_stream_goes_on_after_the_server_was_killed(
    run_nunit: Callable[..., str], wait_for: Callable[[Path], None], tmp_path: Path
):
    with serving(DEFAULT_BUNDLE) as (first, ports), ThreadPoolExecutor() as pool:
        test = pool.submit(
            run_nunit,
            *(f"{call}.{KILLED}" for call in CALLS),
            MOTION_R1_GRPC_ADDRESS=f"127.0.0.1:{ports[0]}",
            MOTION_R1_WEB_ADDRESS=f"http://127.0.0.1:{ports[1]}",
            MOTION_R1_KILL_FOLDER=str(tmp_path),
        )
        # NUnit runs its fixtures in the order of their arguments.
        wait_for(tmp_path / "web.kill")
        first.kill()
        first.wait()
        with serving(DEFAULT_BUNDLE, *ports) as (second, _):
            (tmp_path / "web.again").touch()
            wait_for(tmp_path / "native.kill")
            second.kill()
            second.wait()
            with serving(DEFAULT_BUNDLE, *ports):
                (tmp_path / "native.again").touch()
                assert "2 passed, 0 failed, 0 skipped" in test.result()
