"""The bridge on Ray Serve, in a cluster of two nodes on this machine."""

import itertools
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from bridge.__main__ import main
from bridge.client import CallError, MotionClient
from bridge.ray_app import APP, AppConfig, app
from bridge.server import DEFAULT_BUNDLE, Running, ServeConfig, running
from bridge.stubs import motion_pb2, motion_pb2_grpc
from python_core.contract.bundle import open_bundle

# Ray's own, on import and at the end.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

ROOT = Path(__file__).parents[2]
MAX_STREAMS = 4


def request(seed: int, duration_s: float = 2.0, realtime: bool = False) -> motion_pb2.StreamMotionRequest:
    made = motion_pb2.StreamMotionRequest(
        prompt="a person walks", seed=seed, reasoning=motion_pb2.REASONING_OFF, max_duration_s=duration_s
    )
    if realtime:
        made.pacing.mode = motion_pb2.PACING_MODE_REALTIME
        made.pacing.max_lead_s = 0.2
    return made


def test_arguments_are_read_and_what_is_wrong_with_one_is_said():
    config = AppConfig.read({"bundle": "/models/walk", "max_replicas": "8", "num_cpus": 0.5, "traces": "1"})
    assert (config.bundle, config.max_replicas, config.num_cpus, config.traces) == ("/models/walk", 8, 0.5, 1)
    with pytest.raises(
        ValueError, match=r"replicas: unknown; the arguments of bridge\.ray_app:app are bundle, provider"
    ):
        AppConfig.read({"replicas": 2})
    with pytest.raises(ValueError, match="max_streams must be int, got 'many'"):
        AppConfig.read({"max_streams": "many"})
    with pytest.raises(ValueError, match="min_replicas must be 1 or more and at most max_replicas, got 5 and 4"):
        AppConfig.read({"min_replicas": 5})
    with pytest.raises(ValueError, match="--max-streams must be 1 or more, got 0"):
        AppConfig.read({"max_streams": 0})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--ray", "auto", "/models/walk"],
            "BUNDLE is the replicas' with --ray: serve run bridge.ray_app:app bundle=/models/walk",
        ),
        (
            ["--ray", "auto", "--max-streams", "20"],
            "--max-streams is the replicas' with --ray: serve run bridge.ray_app:app max_streams=20",
        ),
        (
            ["--ray", "auto", "--log-prompts"],
            "--log-prompts is the replicas' with --ray: serve run bridge.ray_app:app log_prompts=1",
        ),
        (["--ray", "auto", "--max-queue", "3"], "--max-queue is not for --ray"),
        (["--ray", "auto", "--traces"], "--traces is the replicas' with --ray"),
    ],
)
def test_options_that_are_the_replicas_are_refused(options: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["serve", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[Running]:
    """A server before two replicas, one on each node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Or whatever else runs on this machine goes before the replicas.
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        try:
            ray.init(address=nodes.address, namespace="serve", log_to_driver=False)
            serve.start(proxy_location="Disabled")
            arguments = {"min_replicas": 2, "max_replicas": 2, "max_streams": MAX_STREAMS, "num_cpus": 1}
            serve.run(app(arguments), name=APP, route_prefix=None)
            config = ServeConfig(port=0, web_port=0, ops_port=0, ray=nodes.address, max_wait_s=2.0)
            with running(config) as server:
                yield server
        finally:
            serve.shutdown()
            ray.shutdown()
            nodes.shutdown()


@pytest.mark.slow
def test_replicas_send_the_frames_that_a_single_server_sends(cluster: Running):
    with (
        running(ServeConfig(port=0, web_port=None)) as single,
        MotionClient(single.grpc_address) as alone,
        MotionClient(cluster.grpc_address) as client,
    ):
        assert client.get_model().model == alone.get_model().model
        for seed in range(8):
            expected = [event for event in alone.stream(request(seed)) if event.HasField("chunk")]
            assert [event for event in client.stream(request(seed)) if event.HasField("chunk")] == expected
        with pytest.raises(CallError, match="prompt: must say what the character does") as caught:
            list(client.stream(motion_pb2.StreamMotionRequest(prompt="")))
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.slow
def test_the_server_counts_what_its_replicas_stream(cluster: Running):
    def scrape() -> dict[str, float]:
        with urllib.request.urlopen(f"http://{cluster.ops_address}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    before = scrape()
    with MotionClient(cluster.grpc_address) as client:
        num_codes = len(list(client.stream(request(0, 1.0)))) - 2
        stream = client.stream(request(0, 8.0, realtime=True))
        num_codes += len(list(itertools.islice(stream, 3))) - 1
        assert scrape()["motion_streams_active"] == 1
        stream.close()
        with pytest.raises(CallError, match="prompt"):
            list(client.stream(motion_pb2.StreamMotionRequest(prompt="")))
        deadline = time.monotonic() + 20
        while (after := scrape())["motion_streams_active"]:
            assert time.monotonic() < deadline, "a stream that was cancelled still has its place"
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown["motion_streams_accepted_total"] == 3
    assert grown["motion_streams_cancelled_total"] == 1
    assert grown['motion_streams_failed_total{code="INVALID_ARGUMENT"}'] == 1
    assert grown['motion_first_frame_seconds_count{reasoning="off"}'] == 2
    assert grown["motion_codes_total"] - num_codes in (0, 1), "the server may have sent one that was not read"
    assert grown["motion_codes_total"] - grown["motion_chunk_gap_seconds_count"] == 2
    num_levels = open_bundle(DEFAULT_BUNDLE).manifest.tokens.num_levels
    assert grown['motion_tokens_total{kind="motion"}'] == num_levels * grown["motion_codes_total"]
    assert sum(value for name, value in grown.items() if name.startswith("motion_quality_total")) == 1
    assert after["motion_queue_length"] == 0


@pytest.mark.slow
def test_a_replica_that_is_killed_loses_no_stream(cluster: Running):
    import ray

    complete: dict[int, list[int]] = {}
    begun = threading.Barrier(MAX_STREAMS + 1)

    def play(seed: int) -> None:
        with MotionClient(cluster.grpc_address, patience_s=60) as client:
            stream = client.stream(request(seed, 8.0, realtime=True))
            events = list(itertools.islice(stream, 3))
            begun.wait(60)
            events += list(stream)
        assert events[-1].HasField("summary")
        complete[seed] = [event.chunk.first_frame for event in events if event.HasField("chunk")]

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(MAX_STREAMS)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    actors: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    replicas = [actor for actor in actors if f"{APP}#" in actor["name"]]
    assert len(replicas) == 2
    ray.kill(ray.get_actor(**replicas[0]))
    for thread in threads:
        thread.join(90)
    assert sorted(complete) == list(range(MAX_STREAMS))
    for frames in complete.values():
        assert frames == list(range(0, 4 * len(frames), 4))


@pytest.mark.slow
def test_what_is_too_much_is_refused_and_what_is_cancelled_makes_room(cluster: Running):
    forever = motion_pb2.DecodeMotionRequest(codes=[1] * 4096, pacing=request(0, realtime=True).pacing)
    with grpc.insecure_channel(cluster.grpc_address) as channel, MotionClient(cluster.grpc_address) as client:
        stub = motion_pb2_grpc.MotionServiceStub(channel)
        streams: list[Any] = []
        deadline = time.monotonic() + 120
        while len(streams) < 2 * MAX_STREAMS:  # The replica that was killed may still be missing.
            assert time.monotonic() < deadline
            stream = stub.DecodeMotion(forever)
            with suppress(grpc.RpcError):
                next(stream)
                streams.append(stream)
        with pytest.raises(CallError, match="no replica of the cluster has had a place for 2 s") as caught:
            list(client.stream(request(0)))
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.get_model().limits.max_streams == MAX_STREAMS
        streams[0].cancel()
        assert list(client.stream(request(0)))[-1].HasField("summary")
        for stream in streams:
            stream.cancel()
