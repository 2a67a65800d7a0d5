"""Many streams one after the other: a server that serves for days must not grow."""

from pathlib import Path

import grpc
import pytest

from bridge.server import ServeConfig, running
from bridge.stubs import motion_pb2, motion_pb2_grpc

WARM_UP, STREAMS = 100, 1500
MAX_GROWTH_MB = 20


def resident_mb() -> float:
    """Memory of this process, the server in it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow
def test_memory_stays_flat_over_many_streams(tiny_bundle: Path):
    with (
        running(ServeConfig(bundle=tiny_bundle, port=0, web_port=None)) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        before_mb = 0.0
        for seed in range(WARM_UP + STREAMS):
            if seed == WARM_UP:
                before_mb = resident_mb()
            request = motion_pb2.StreamMotionRequest(
                prompt="a person walks", seed=seed, reasoning=motion_pb2.REASONING_OFF, max_duration_s=1.0
            )
            assert list(stub.StreamMotion(request, timeout=20))[-1].event.HasField("summary")
        assert resident_mb() - before_mb < MAX_GROWTH_MB
