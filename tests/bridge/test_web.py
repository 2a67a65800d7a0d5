import base64
import http.client
import struct
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from bridge.server import ServeConfig, running
from bridge.status import SERVICE
from bridge.stubs import motion_pb2, motion_pb2_grpc
from python_core.contract.bundle import Manifest

PROMPT = "a person walks"
FOREVER_S = 2000.0
AT_ONCE = motion_pb2.StreamMotionRequest(prompt=PROMPT, seed=4, reasoning=motion_pb2.REASONING_OFF)
HEADERS = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}

Write = Callable[[Sequence[int]], Path]


class Bridge(Protocol):
    """The running server of the fixtures."""

    grpc_address: str
    web_address: str


@pytest.fixture
def endless(scripted_bundle: Write, manifest: Manifest) -> Iterator[str]:
    """Web address of a server with one stream, whose motions last until they are stopped."""
    folder = scripted_bundle(manifest.tokens.reply_ids(None, [1])[:-1])
    config = ServeConfig(bundle=folder, port=0, web_port=0, max_streams=1, max_duration_s=FOREVER_S, grace_s=0.1)
    with running(config) as server:
        assert server.web_address is not None
        yield server.web_address


def post(
    address: str, body: bytes, method: str = "StreamMotion", **headers: str
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("POST", f"/{SERVICE}/{method}", body, HEADERS | headers)
    return connection, connection.getresponse()


def frame(message: motion_pb2.StreamMotionRequest | motion_pb2.GetModelRequest) -> bytes:
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def call(address: str, body: bytes, method: str = "StreamMotion", **headers: str) -> tuple[list[bytes], dict[str, str]]:
    """The messages and the trailers of a call."""
    connection, response = post(address, body, method, **headers)
    data = response.read()
    connection.close()
    assert response.status == 200
    messages, trailers = [], {name.lower(): value for name, value in response.getheaders()}
    while data:
        flag, length = struct.unpack_from(">BI", data)
        payload, data = data[5 : 5 + length], data[5 + length :]
        if flag == 0x80:
            trailers = dict(line.split(": ", 1) for line in payload.decode("ascii").splitlines())
            assert data == b""
        else:
            assert flag == 0
            messages.append(payload)
    return messages, trailers


def test_grpc_web_sends_what_grpc_sends_bit_for_bit(tiny_bridge: Bridge):
    messages, trailers = call(tiny_bridge.web_address, frame(AT_ONCE))
    with grpc.insecure_channel(tiny_bridge.grpc_address) as channel:
        over_grpc = list(motion_pb2_grpc.MotionServiceStub(channel).StreamMotion(AT_ONCE))
    over_web = [motion_pb2.StreamMotionResponse.FromString(message) for message in messages]
    for responses in (over_grpc, over_web):  # What differs from call to call.
        responses[0].event.header.request_id = ""
        responses[-1].event.summary.first_frame_ms = responses[-1].event.summary.total_ms = 0
    assert [response.SerializeToString(deterministic=True) for response in over_web] == [
        response.SerializeToString(deterministic=True) for response in over_grpc
    ]
    assert len(over_web) > 2
    assert trailers == {"grpc-status": "0"}


def test_get_model_answers_over_grpc_web(tiny_bridge: Bridge):
    messages, trailers = call(tiny_bridge.web_address, frame(motion_pb2.GetModelRequest()), "GetModel")
    assert motion_pb2.GetModelResponse.FromString(messages[0]).model.frames_per_code == 4
    assert trailers["grpc-status"] == "0"


def test_a_refused_request_has_its_status_message_and_details_in_the_headers(tiny_bridge: Bridge):
    request = motion_pb2.StreamMotionRequest(prompt="größer 100 % " + "a" * 2000)
    messages, headers = call(tiny_bridge.web_address, frame(request))
    assert messages == []
    assert headers["grpc-status"] == "3"
    assert "at most 1000 code points, got 2013" in urllib.parse.unquote(headers["grpc-message"])
    details = headers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert bad_request.field_violations[0].field == "prompt"


def test_a_status_message_beyond_ascii_is_percent_encoded(tiny_bridge: Bridge):
    _, headers = call(tiny_bridge.web_address, frame(motion_pb2.StreamMotionRequest(prompt="é<think>")))
    assert headers["grpc-status"] == "3"
    assert headers["grpc-message"].isascii()
    assert "'<think>'" in urllib.parse.unquote(headers["grpc-message"])


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", "3", "expected one frame, got a body of 0 bytes"),
        (b"\0\0\0\0\5abc", "3", "expected one frame of 5 bytes, got 3"),
        (b"\0\0\0\0\3abc", "3", "no motion_r1.v1.StreamMotionRequest"),
        (b"\1\0\0\0\0", "12", "not compressed"),
        (b"\0\0\1\x86\xa0" + b"a" * 100_000, "8", "at most 65536 bytes"),
    ],
)
def test_a_body_that_is_no_request_is_refused_in_one_sentence(tiny_bridge: Bridge, body: bytes, status: str, told: str):
    messages, headers = call(tiny_bridge.web_address, body)
    assert (messages, headers["grpc-status"]) == ([], status)
    assert told in urllib.parse.unquote(headers["grpc-message"])
    assert "Traceback" not in headers["grpc-message"]


def test_an_unknown_method_is_unimplemented_and_another_content_type_is_415(tiny_bridge: Bridge):
    _, headers = call(tiny_bridge.web_address, frame(AT_ONCE), "Dance")
    assert headers["grpc-status"] == "12"
    assert "it has GetModel, PlanMotion, StreamMotion, DecodeMotion" in headers["grpc-message"]
    connection, response = post(tiny_bridge.web_address, b"{}", **{"content-type": "application/json"})
    assert response.status == 415
    assert "application/grpc-web+proto" in response.read().decode()
    connection.close()


@pytest.mark.parametrize(
    ("allowed", "origin", "told"),
    [
        ((), "http://game.example", None),
        (("http://game.example",), "http://game.example", "http://game.example"),
        (("http://game.example",), "http://evil.example", None),
        (("*",), "http://any.example", "http://any.example"),
    ],
)
def test_a_page_may_call_and_read_the_status_if_its_origin_is_allowed(
    tiny_bundle: Path, allowed: tuple[str, ...], origin: str, told: str | None
):
    with running(ServeConfig(bundle=tiny_bundle, port=0, web_port=0, cors_origins=allowed)) as server:
        assert server.web_address is not None
        connection = http.client.HTTPConnection(server.web_address, timeout=30)
        asked = {"origin": origin, "access-control-request-method": "POST"}
        connection.request("OPTIONS", f"/{SERVICE}/StreamMotion", headers=asked)
        preflight = connection.getresponse()
        preflight.read()
        connection.close()
        connection, response = post(server.web_address, frame(motion_pb2.GetModelRequest()), "GetModel", origin=origin)
        response.read()
        connection.close()
    for answer in (preflight, response):
        assert answer.headers.get("access-control-allow-origin") == told
    headers = {"authorization", "grpc-timeout", "content-type", "x-grpc-web"}
    exposed = {"grpc-status", "grpc-message", "grpc-status-details-bin"}
    if told is not None:
        assert headers <= set(preflight.headers["access-control-allow-headers"].split(", "))
        assert exposed <= set(response.headers["access-control-expose-headers"].split(", "))


@pytest.mark.parametrize("timeout", ["10", "S", "123456789S", "-1S"])
def test_a_timeout_that_is_none_is_refused(tiny_bridge: Bridge, timeout: str):
    _, headers = call(tiny_bridge.web_address, frame(AT_ONCE), **{"grpc-timeout": timeout})
    assert headers["grpc-status"] == "3"


def test_a_timeout_ends_the_stream_with_deadline_exceeded_and_frees_it(endless: str):
    request = motion_pb2.StreamMotionRequest(
        prompt=PROMPT, reasoning=motion_pb2.REASONING_OFF, max_duration_s=FOREVER_S
    )
    messages, trailers = call(endless, frame(request), **{"grpc-timeout": "2S"})
    assert len(messages) > 1
    assert trailers["grpc-status"] == "4"
    wait_until_free(endless)


def test_a_request_whose_body_does_not_come_is_ended(tiny_bundle: Path):
    with running(ServeConfig(bundle=tiny_bundle, port=0, web_port=0, max_idle_s=0.3)) as server:
        assert server.web_address is not None
        connection = http.client.HTTPConnection(server.web_address, timeout=20)
        connection.putrequest("POST", f"/{SERVICE}/StreamMotion")
        connection.putheader("content-type", HEADERS["content-type"])
        connection.putheader("content-length", "100")
        connection.endheaders(b"\0\0")
        response = connection.getresponse()
        connection.close()
    assert response.headers["grpc-status"] == "10"
    assert "has not come within 0.3 s" in response.headers["grpc-message"]


@pytest.mark.slow
def test_a_client_that_takes_nothing_is_ended_and_frees_its_stream(tiny_bundle: Path):
    data = motion_pb2.DecodeMotionRequest(codes=[1] * 4096).SerializeToString()
    config = ServeConfig(bundle=tiny_bundle, port=0, web_port=0, ops_port=0, max_idle_s=0.3)
    with running(config) as server:
        assert server.web_address is not None
        connection, _ = post(server.web_address, struct.pack(">BI", 0, len(data)) + data, "DecodeMotion")
        deadline, metrics = time.monotonic() + 100, ""
        while "motion_calls_total{" not in metrics:  # First the system's own buffers are filled: some megabytes.
            assert time.monotonic() < deadline, "the stream goes on though nobody reads"
            time.sleep(0.1)
            with urllib.request.urlopen(f"http://{server.ops_address}/metrics", timeout=10) as response:
                metrics = response.read().decode()
        connection.close()
    assert 'motion_calls_total{code="ABORTED",method="DecodeMotion",transport="grpc-web"} 1.0' in metrics
    assert 'motion_streams_failed_total{code="ABORTED"} 1.0' in metrics, "no client has cancelled"
    assert "motion_streams_active 0.0" in metrics


def test_a_client_that_leaves_frees_its_stream(endless: str):
    request = motion_pb2.StreamMotionRequest(
        prompt=PROMPT, reasoning=motion_pb2.REASONING_OFF, max_duration_s=FOREVER_S
    )
    connection, response = post(endless, frame(request))
    assert len(response.read(1000)) == 1000
    _, headers = call(endless, frame(AT_ONCE))
    assert headers["grpc-status"] == "8"
    response.close()
    connection.close()
    wait_until_free(endless)


def wait_until_free(address: str, within_s: float = 2) -> None:
    """Ask for the shortest motion until the server's only stream is free again."""
    short = motion_pb2.StreamMotionRequest(prompt=PROMPT, reasoning=motion_pb2.REASONING_OFF, max_duration_s=0.2)
    deadline = time.monotonic() + within_s
    while (status := call(address, frame(short))[1]["grpc-status"]) != "0":
        assert status == "8"
        assert time.monotonic() < deadline, "the stream is still in use"
        time.sleep(0.005)
