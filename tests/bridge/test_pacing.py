import asyncio
import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bridge.client import MotionClient
from bridge.pacing import Pacer, Pacing
from bridge.server import ServeConfig, running
from bridge.stubs import motion_pb2, motion_pb2_grpc

CODE_S = 0.2
LEAD_S = 0.6


def test_a_chunk_waits_until_it_is_at_most_the_lead_ahead_of_the_clock():
    now_s = 10.0
    slept: list[float] = []

    async def wait_for_all() -> list[float]:
        nonlocal now_s
        pacer, sent = Pacer(Pacing(1.0), clock=lambda: now_s), []
        for number in range(12):
            began = now_s
            task = asyncio.ensure_future(pacer.wait(number * CODE_S))
            while not task.done():
                await asyncio.sleep(0)
                if not task.done():
                    now_s += 0.05
            await task
            slept.append(now_s - began)
            sent.append(now_s - 10.0)
        return sent

    async def run() -> list[float]:
        real_sleep = asyncio.sleep

        async def sleep(_: float) -> None:
            await real_sleep(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bridge.pacing.asyncio.sleep", sleep)
            return await wait_for_all()

    sent_s = asyncio.run(run())
    assert sent_s[:6] == [0.0] * 6
    for number, at_s in enumerate(sent_s):
        assert number * CODE_S - at_s <= 1.0 + 1e-9
        assert at_s == pytest.approx(max(0.0, number * CODE_S - 1.0), abs=0.051)


def test_a_burst_never_waits():
    async def run() -> None:
        pacer = Pacer(Pacing(None), clock=lambda: 0.0)
        for number in range(1000):
            await pacer.wait(number * CODE_S)

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 1


def real_time(duration_s: float) -> motion_pb2.StreamMotionRequest:
    return motion_pb2.StreamMotionRequest(
        prompt="a person walks",
        reasoning=motion_pb2.REASONING_OFF,
        max_duration_s=duration_s,
        pacing=motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=LEAD_S),
    )


@pytest.mark.parametrize("pause_s", [0.0, 0.15, 1.0], ids=["normal", "slow", "stops"])
def test_no_reader_is_ever_more_than_the_lead_and_a_chunk_ahead_of_the_clock(endless_bundle: Path, pause_s: float):
    config = ServeConfig(bundle=endless_bundle, port=0, web_port=None, max_duration_s=100.0)
    with running(config) as server, MotionClient(server.grpc_address) as client:
        stream = client.stream(real_time(2.0))
        leads_s, began_s = [], 0.0
        for event in stream:
            if event.HasField("header"):
                assert event.header.pacing.mode == motion_pb2.PACING_MODE_REALTIME
                assert event.header.pacing.max_lead_s == pytest.approx(LEAD_S)
            if event.HasField("chunk"):
                if not leads_s:
                    began_s = time.monotonic()
                    if pause_s == 1.0:
                        time.sleep(pause_s)
                leads_s.append(CODE_S * len(stream.track.codes) - (time.monotonic() - began_s))
                if pause_s < 1.0:
                    time.sleep(pause_s)
    assert len(leads_s) == 10
    # The server's clock begins before ours, by what the first chunk takes to come.
    assert max(leads_s[1:]) <= LEAD_S + CODE_S + 0.15


def test_a_reader_that_takes_nothing_is_ended_with_a_clear_status_and_bounded_memory(endless_bundle: Path):
    config = ServeConfig(
        bundle=endless_bundle, port=0, web_port=None, ops_port=0, max_streams=1, max_duration_s=3000.0, max_idle_s=0.5
    )
    request = motion_pb2.StreamMotionRequest(
        prompt="a person walks", reasoning=motion_pb2.REASONING_OFF, max_duration_s=3000.0
    )
    # A small window, as a client that reads seldom has; else its buffers hold minutes of motion.
    options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
    with running(config) as server, grpc.insecure_channel(server.grpc_address, options=options) as channel:
        call = motion_pb2_grpc.MotionServiceStub(channel).StreamMotion(request, timeout=30)
        next(call)
        with MotionClient(server.grpc_address) as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    next(client.stream(real_time(CODE_S)))
                    break
                except ValueError:
                    assert time.monotonic() < deadline, "the stream is still in use"
                    time.sleep(0.05)
        taken: list[motion_pb2.StreamMotionResponse] = []
        with pytest.raises(grpc.RpcError) as caught:
            taken.extend(call)
        with urllib.request.urlopen(f"http://{server.ops_address}/metrics", timeout=10) as response:
            metrics = response.read().decode()
    assert 'motion_streams_failed_total{code="ABORTED"} 1.0' in metrics, "no client has cancelled"
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert "taken nothing for 0.5 s" in str(caught.value.details())
    status, info = rpc_status.from_call(caught.value), error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.reason == "CLIENT_IDLE"
    assert len(taken) < 1000, "what waits for the client is bounded"
