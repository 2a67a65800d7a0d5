"""How calls end, what is counted, and what changes while the server runs."""

import asyncio
import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bridge.client import CallError, MotionClient
from bridge.logs import JsonFormatter
from bridge.metrics import Metrics
from bridge.server import Running, ServeConfig, running
from bridge.service import MotionService
from bridge.status import SERVICE
from bridge.stubs import motion_pb2, motion_pb2_grpc
from python_core.contract.bundle import MANIFEST, Manifest, sha256, write_manifest
from python_core.contract.vocabulary import MAX_REASONING_TOKENS

Write = Callable[[Sequence[int]], Path]
FOREVER_S = 2000.0
DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/motion-r1.json"
PAGE = Path(__file__).parents[2] / "docs/operations.md"


def at_once(duration_s: float = FOREVER_S) -> motion_pb2.StreamMotionRequest:
    return motion_pb2.StreamMotionRequest(
        prompt="a person walks", reasoning=motion_pb2.REASONING_OFF, max_duration_s=duration_s
    )


def slowly(num_codes: int = 4096) -> motion_pb2.DecodeMotionRequest:
    """A decoding that takes minutes."""
    pacing = motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=0.2)
    return motion_pb2.DecodeMotionRequest(codes=[1] * num_codes, pacing=pacing)


def scrape(address: str | None) -> dict[str, float]:
    """Every sample, by name with labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def code_of(error: BaseException) -> str:
    assert isinstance(error, grpc.Call)
    return error.code().name


@pytest.fixture
def server(endless_bundle: Path) -> Iterator[Running]:
    config = ServeConfig(
        bundle=endless_bundle,
        port=0,
        web_port=0,
        ops_port=0,
        max_streams=1,
        max_queue=1,
        max_wait_s=30,
        max_duration_s=FOREVER_S,
        grace_s=0.1,
    )
    with running(config) as started:
        yield started


class Calls:
    """One call of each kind against a server with a single place."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.grpc_address)
        self.stub = motion_pb2_grpc.MotionServiceStub(self.channel)

    def web(self, timeout: str | None = None, reasoning: int = motion_pb2.REASONING_OFF):
        """Over gRPC-Web: the open response of an endless stream."""
        request = at_once()
        request.reasoning = reasoning  # pyright: ignore[reportAttributeAccessIssue]
        data = request.SerializeToString()
        headers = {"content-type": "application/grpc-web+proto"} | ({"grpc-timeout": timeout} if timeout else {})
        body = b"\0" + len(data).to_bytes(4, "big") + data
        url = f"http://{self.server.web_address}/{SERVICE}/StreamMotion"
        return urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30)

    def check_free(self, what: str) -> None:
        """The place is free again, nobody waits, and the next call is served."""
        address = self.server.ops_address
        wait_for(lambda: scrape(address)["motion_streams_active"] == 0, f"{what}: its place is still in use")
        assert scrape(address)["motion_queue_length"] == 0, what
        wait_for(lambda: scrape(address)["motion_batch_rows"] == 0, f"{what}: its row is still in the batch")
        assert len(list(self.stub.StreamMotion(at_once(0.2), timeout=20))) == 3, what


def test_whatever_is_cancelled_gives_its_place_back(server: Running):
    calls = Calls(server)
    stream = calls.stub.StreamMotion(at_once())
    next(stream)
    wait_for(lambda: scrape(server.ops_address)["motion_batch_rows"] == 1, "the stream has no row")
    waiting = calls.stub.PlanMotion.future(motion_pb2.PlanMotionRequest(prompt="walk"))
    wait_for(lambda: scrape(server.ops_address)["motion_queue_length"] == 1, "unary does not wait")
    waiting.cancel()
    wait_for(lambda: scrape(server.ops_address)["motion_queue_length"] == 0, "cancelled unary waits on")
    stream.cancel()
    calls.check_free("stream")
    decoding = calls.stub.DecodeMotion(slowly())
    next(decoding)
    decoding.cancel()
    calls.check_free("decode")
    response = calls.web()
    response.read(2000)
    response.close()
    calls.check_free("gRPC-Web")
    samples = scrape(server.ops_address)
    assert samples["motion_streams_cancelled_total"] == 4
    assert samples['motion_calls_total{code="CANCELLED",method="StreamMotion",transport="grpc"}'] == 1
    assert samples['motion_calls_total{code="CANCELLED",method="StreamMotion",transport="grpc-web"}'] == 1


def test_whatever_is_too_late_gives_its_place_back(server: Running):
    calls = Calls(server)
    stream = calls.stub.StreamMotion(at_once(), timeout=1.5)
    next(stream)
    with pytest.raises(grpc.RpcError) as caught:
        calls.stub.PlanMotion(motion_pb2.PlanMotionRequest(prompt="walk"), timeout=0.3)
    assert code_of(caught.value) == "DEADLINE_EXCEEDED"
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert code_of(caught.value) == "DEADLINE_EXCEEDED"
    calls.check_free("stream")
    with pytest.raises(grpc.RpcError) as caught:
        list(calls.stub.DecodeMotion(slowly(), timeout=0.4))
    assert code_of(caught.value) == "DEADLINE_EXCEEDED"
    calls.check_free("decode")
    assert b"grpc-status: 4\r\n" in calls.web(timeout="400m").read()
    calls.check_free("gRPC-Web")


def test_whatever_fails_gives_its_place_back(server: Running):
    calls = Calls(server)
    with pytest.raises(grpc.RpcError) as caught:
        calls.stub.PlanMotion(motion_pb2.PlanMotionRequest(prompt="walk"), timeout=30)
    assert code_of(caught.value) == "ABORTED"
    calls.check_free("unary")
    with pytest.raises(grpc.RpcError) as caught:
        list(calls.stub.StreamMotion(motion_pb2.StreamMotionRequest(prompt="walk"), timeout=30))
    assert code_of(caught.value) == "ABORTED"
    calls.check_free("stream")
    with pytest.raises(grpc.RpcError) as caught:
        list(calls.stub.DecodeMotion(motion_pb2.DecodeMotionRequest(codes=[2**40]), timeout=30))
    assert code_of(caught.value) == "INVALID_ARGUMENT"
    calls.check_free("decode")
    assert b"grpc-status: 10\r\n" in calls.web(reasoning=motion_pb2.REASONING_ON).read()
    calls.check_free("gRPC-Web")
    samples = scrape(server.ops_address)
    assert samples['motion_streams_failed_total{code="ABORTED"}'] == 3
    assert samples['motion_calls_total{code="INVALID_ARGUMENT",method="DecodeMotion",transport="grpc"}'] == 1


def test_whatever_runs_when_the_server_stops_is_told(endless_bundle: Path):
    config = ServeConfig(
        bundle=endless_bundle, port=0, web_port=0, max_streams=3, max_queue=1, max_wait_s=30,
        max_duration_s=FOREVER_S, grace_s=0.3,
    )  # fmt: skip
    ended: dict[str, str] = {}
    with running(config) as server:
        calls = Calls(server)
        stream, decoding, web = calls.stub.StreamMotion(at_once()), calls.stub.DecodeMotion(slowly()), calls.web()
        next(stream)
        next(decoding)
        web.read(2000)

        def end(kind: str, finish: Callable[[], object]) -> None:
            try:
                finish()
                ended[kind] = "complete"
            except grpc.RpcError as error:
                ended[kind] = code_of(error)
            except OSError as error:
                ended[kind] = type(error).__name__

        body: list[bytes] = []

        def read_web() -> None:
            with suppress(OSError, HTTPException, ValueError):  # The body is cut, which is an incomplete stream.
                while part := web.read1(65536):
                    body.append(part)

        unary = calls.stub.PlanMotion.future(motion_pb2.PlanMotionRequest(prompt="walk"))
        readers = [
            threading.Thread(target=end, args=("stream", lambda: list(stream))),
            threading.Thread(target=end, args=("decode", lambda: list(decoding))),
            threading.Thread(target=end, args=("unary", unary.result)),
            threading.Thread(target=read_web),
        ]
        for reader in readers:
            reader.start()
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 8
    for reader in readers:
        reader.join(10)
        assert not reader.is_alive()
    assert {ended[kind] for kind in ("stream", "decode", "unary")} <= {"UNAVAILABLE", "CANCELLED"}
    assert body
    assert b"grpc-status: 0" not in b"".join(body)


@pytest.mark.parametrize("late", [False, True])
def test_a_plan_that_is_cancelled_or_too_late_while_it_is_written_frees_its_row(
    scripted_bundle: Write, manifest: Manifest, text_ids: Callable[[str], list[int]], late: bool
):
    words = text_ids("1. " + " ".join(["walk"] * 80))[:MAX_REASONING_TOKENS]
    config = ServeConfig(bundle=scripted_bundle(manifest.tokens.reply_ids(words, [1])))
    metrics = Metrics()
    service = MotionService(config, metrics)
    request = motion_pb2.PlanMotionRequest(prompt="walk").SerializeToString()

    def count(name: str) -> float | None:
        return metrics.registry.get_sample_value(name)

    async def run() -> None:
        await service.load()
        async with aclosing(service.call("PlanMotion", request)) as responses:
            asking = asyncio.ensure_future(anext(responses))
            while not count("motion_batch_rows"):
                assert not asking.done(), "the plan was written before anybody looked"
                await asyncio.sleep(0)
            if late:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asking, 0)
            else:
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
        while count("motion_batch_rows"):
            await asyncio.sleep(0.001)
        assert (count("motion_streams_active"), count("motion_streams_cancelled_total")) == (0, 1)

    asyncio.run(asyncio.wait_for(run(), 30))
    service.close()


def test_health_says_when_a_server_loads_serves_and_drains(endless_bundle: Path):
    config = ServeConfig(bundle=endless_bundle, port=0, web_port=None, ops_port=0, max_duration_s=FOREVER_S, grace_s=5)
    states: list[int] = []
    with running(config) as server:
        channel = grpc.insecure_channel(server.grpc_address)
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(service=SERVICE))

        def follow() -> None:
            with suppress(grpc.RpcError):
                states.extend(response.status for response in watch)

        follower = threading.Thread(target=follow)
        follower.start()
        with urllib.request.urlopen(f"http://{server.ops_address}/healthz", timeout=5) as response:
            assert response.status == 200
        wait_for(lambda: states == [health_pb2.HealthCheckResponse.SERVING], "health is not SERVING")
        stream = motion_pb2_grpc.MotionServiceStub(channel).StreamMotion(at_once())
        next(stream)
        ops = server.ops_address
        drained: list[int] = []

        def end_stream_while_draining() -> None:
            wait_for(lambda: len(states) > 1, "health does not change")
            seen(ops, drained)
            stream.cancel()

        stopper = threading.Thread(target=end_stream_while_draining)
        stopper.start()
    stopper.join(10)
    follower.join(10)
    channel.close()
    assert states == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert drained == [503]


def seen(ops_address: str | None, statuses: list[int]) -> None:
    """Note what /healthz answers."""
    try:
        with urllib.request.urlopen(f"http://{ops_address}/healthz", timeout=5) as response:
            statuses.append(response.status)
    except HTTPError as error:
        statuses.append(error.code)
        error.close()


def renamed(bundle: Path, manifest: Manifest, name: str) -> None:
    """Give the bundle in a folder another name, as a new export would."""
    (bundle / MANIFEST).unlink()
    files = {path.name: sha256(path) for path in bundle.iterdir()}
    write_manifest(bundle, dataclasses.replace(manifest, model_id=name, files=files))


def test_a_new_bundle_serves_new_calls_and_drops_no_stream_and_a_bad_one_changes_nothing(
    tiny_bundle: Path, manifest: Manifest, tmp_path: Path
):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    renamed(bundle, manifest, "first")
    with (
        running(ServeConfig(bundle=bundle, port=0, web_port=None, ops_port=0)) as server,
        MotionClient(server.grpc_address) as client,
    ):
        decoding = client.decode([1] * 30, pacing=slowly().pacing)
        assert next(decoding).header.model.model_id == "first"
        renamed(bundle, manifest, "second")
        server.reload()
        wait_for(lambda: client.get_model().model.model_id == "second", "the new bundle does not serve", 30)
        with (bundle / "tokenizer.json").open("a") as file:
            file.write(" ")
        server.reload()
        refused = 'motion_reloads_total{outcome="refused"}'
        wait_for(lambda: scrape(server.ops_address).get(refused) == 1, "the bad bundle is not refused", 30)
        assert client.get_model().model.model_id == "second"
        assert list(decoding)[-1].summary.num_codes == 30
        assert next(client.decode([1])).header.model.model_id == "second"


def test_sighup_loads_the_bundle_again(tiny_bundle: Path, manifest: Manifest, tmp_path: Path):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    command = [sys.executable, "-m", "bridge", "serve", str(bundle), "--port", "0", "--web-port", "0"]
    command += ["--metrics-port", "0", "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.search(r"gRPC (\S+), gRPC-Web http://(\S+), metrics http://(\S+)/metrics", process.stdout.readline())
        assert found
        renamed(bundle, manifest, "second")
        os.kill(process.pid, signal.SIGHUP)
        with MotionClient(found[1]) as client:
            wait_for(lambda: client.get_model().model.model_id == "second", "SIGHUP changes nothing", 30)
        process.terminate()
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
        assert process.wait(20) == 0
    assert any("serving second" in line["message"] for line in lines)


def test_the_log_names_calls_and_no_prompts_unless_asked(endless_bundle: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "bridge")
    secret = motion_pb2.StreamMotionRequest(prompt="xyzzy <think>", reasoning=motion_pb2.REASONING_OFF)
    for log_prompts in (False, True):
        caplog.clear()
        config = ServeConfig(bundle=endless_bundle, port=0, web_port=None, log_prompts=log_prompts)
        with running(config) as server, MotionClient(server.grpc_address) as client:
            with pytest.raises(CallError, match="INVALID_ARGUMENT"):
                list(client.stream(secret))
            secret_free = motion_pb2.StreamMotionRequest(
                prompt="xyzzy", reasoning=motion_pb2.REASONING_OFF, max_duration_s=0.2
            )
            request_id = next(client.stream(secret_free)).header.request_id
        records = [record for record in caplog.records if hasattr(record, "call")]
        lines = [json.loads(JsonFormatter().format(record)) for record in records]
        assert {line["method"] for line in lines} == {"StreamMotion"}
        assert request_id in {line["request_id"] for line in lines}
        assert all(line["level"] == "info" and line["took_ms"] > 0 for line in lines)
        assert ("xyzzy" in json.dumps(lines)) == log_prompts


def test_metrics_follow_a_stream(endless_bundle: Path):
    config = ServeConfig(bundle=endless_bundle, port=0, web_port=None, ops_port=0)
    with running(config) as server, MotionClient(server.grpc_address) as client:
        list(client.stream(at_once(1.0)))
        list(client.decode([1, 2]))
        samples = scrape(server.ops_address)
    assert samples["motion_streams_accepted_total"] == 2
    assert samples["motion_codes_total"] == 7
    assert samples['motion_first_frame_seconds_count{reasoning="off"}'] == 1
    assert samples['motion_first_frame_seconds_count{reasoning="none"}'] == 1
    assert samples["motion_chunk_gap_seconds_count"] == 5
    assert sum(value for name, value in samples.items() if name.startswith("motion_quality_total")) == 2
    assert samples["motion_ready"] == 1
    assert samples['motion_calls_total{code="OK",method="StreamMotion",transport="grpc"}'] == 1


def test_the_dashboard_asks_for_metrics_that_exist():
    text = DASHBOARD.read_text()
    asked = set(re.findall(r"\bmotion_[a-z_]+", text))
    names = {family.name for family in Metrics().registry.collect()}
    suffixes = ("", "_total", "_bucket", "_sum", "_count")
    known = {name + suffix for name in names for suffix in suffixes}
    assert asked <= known, asked - known
    unused = {name for name in names if not any(one.startswith(name) for one in asked)}
    assert unused == set(), f"not on the dashboard: {unused}"
    json.loads(text)


def test_the_page_has_every_option_of_serve_and_every_metric():
    text = PAGE.read_text()
    options = text.partition("## Options")[2].partition("\n## ")[0]
    in_table = {
        name for line in options.splitlines() for name in re.findall(r"`(--[a-z-]+)`", line.partition(" | ")[0])
    }
    run = subprocess.run(
        [sys.executable, "-m", "bridge", "serve", "--help"], capture_output=True, text=True, check=True
    )
    assert in_table == set(re.findall(r"^  (--[a-z-]+)", run.stdout, re.MULTILINE))
    metrics = text.partition("## Metrics")[2].partition("\n## ")[0]
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        short = "`_" + family.name.removeprefix("motion_streams_") + suffix
        assert f"`{family.name}{suffix}" in metrics or short in metrics, family.name
