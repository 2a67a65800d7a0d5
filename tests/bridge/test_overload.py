"""Three times as many clients as streams, for a while: nothing piles up, and the server stays healthy."""

import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bridge.server import ServeConfig, running
from bridge.stubs import motion_pb2, motion_pb2_grpc

MAX_STREAMS, NUM_CLIENTS, DURATION_S = 5, 15, 30


def code_of(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    return error.code().name


@pytest.mark.slow
def test_overload_is_refused_and_accepted_streams_are_complete(tiny_bundle: Path):
    outcomes: Counter[str] = Counter()
    with running(ServeConfig(bundle=tiny_bundle, port=0, web_port=None, max_streams=MAX_STREAMS)) as server:
        deadline = time.monotonic() + DURATION_S

        def ask(number: int) -> None:
            with grpc.insecure_channel(server.grpc_address) as channel:
                stub = motion_pb2_grpc.MotionServiceStub(channel)
                seed = number
                while time.monotonic() < deadline:
                    seed += NUM_CLIENTS
                    request = motion_pb2.StreamMotionRequest(
                        prompt="a person walks", seed=seed, reasoning=motion_pb2.REASONING_OFF
                    )
                    try:
                        events = [response.event for response in stub.StreamMotion(request, timeout=20)]
                        outcomes["complete" if events[-1].HasField("summary") else "incomplete"] += 1
                    except grpc.RpcError as error:
                        outcomes[code_of(error)] += 1
                        time.sleep(0.02)

        clients = [threading.Thread(target=ask, args=(number,)) for number in range(NUM_CLIENTS)]
        for client in clients:
            client.start()
        with grpc.insecure_channel(server.grpc_address) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            while time.monotonic() < deadline:
                assert (
                    check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
                )
                time.sleep(0.5)
        for client in clients:
            client.join()
        with grpc.insecure_channel(server.grpc_address) as channel:
            request = motion_pb2.StreamMotionRequest(prompt="a person walks", reasoning=motion_pb2.REASONING_OFF)
            last = list(motion_pb2_grpc.MotionServiceStub(channel).StreamMotion(request, timeout=20))[-1]
            assert last.event.HasField("summary")
    assert set(outcomes) == {"complete", "RESOURCE_EXHAUSTED"}, outcomes
    assert outcomes["complete"] > 20
