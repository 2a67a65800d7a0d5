import socket
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from google.rpc import status_pb2

from bridge.client import CallError, MotionClient, StreamError, check_events
from bridge.stubs import motion_pb2, motion_pb2_grpc
from bridge.wire import WIRE_VERSION, read_chunk, read_skeleton
from python_core.contract.skeleton import BODY_22

HEADER = motion_pb2.MotionEvent(header=motion_pb2.StreamHeader(model=motion_pb2.Model(wire_version=WIRE_VERSION)))
PLAN = motion_pb2.MotionEvent(plan=motion_pb2.Plan())


def chunk(first_frame: int) -> motion_pb2.MotionEvent:
    return motion_pb2.MotionEvent(chunk=motion_pb2.FrameChunk(first_frame=first_frame, contacts=b"\0\0\0\0"))


def summary(num_codes: int, num_frames: int) -> motion_pb2.MotionEvent:
    return motion_pb2.MotionEvent(summary=motion_pb2.StreamSummary(num_codes=num_codes, num_frames=num_frames))


def test_a_complete_stream_passes_unchanged():
    events = [HEADER, PLAN, chunk(0), chunk(4), summary(2, 8)]
    assert list(check_events(iter(events), plans=True)) == events


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([HEADER, chunk(0), chunk(4)], "ended after 8 frames without its summary"),
        ([], "ended after 0 frames without its summary"),
        ([chunk(0)], "event 0 of the stream: expected header, got chunk"),
        ([HEADER, chunk(0), chunk(8)], "begins at frame 4, got 8"),
        ([HEADER, chunk(4)], "begins at frame 0, got 4"),
        ([HEADER, summary(0, 0)], "expected chunk, got summary"),
        ([HEADER, PLAN], "expected chunk, got plan"),
        ([HEADER, chunk(0), HEADER], "expected chunk or summary, got header"),
        ([HEADER, chunk(0), summary(2, 8)], "counts 2 codes and 8 frames, 1 and 4 came"),
        ([HEADER, chunk(0), summary(1, 4), chunk(4)], "expected the end, got chunk"),
    ],
)
def test_a_stream_with_a_gap_or_out_of_order_is_an_error_that_says_where(
    events: list[motion_pb2.MotionEvent], told: str
):
    with pytest.raises(StreamError, match=told):
        list(check_events(iter(events), plans=False))


def test_a_stream_that_should_plan_but_does_not_is_an_error():
    def events() -> Iterator[motion_pb2.MotionEvent]:
        yield HEADER
        yield chunk(0)

    with pytest.raises(StreamError, match="expected plan, got chunk"):
        list(check_events(events(), plans=True))


def test_a_server_that_is_not_there_is_an_error_that_names_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with (
        MotionClient(address) as client,
        pytest.raises(CallError, match=rf"{address}: UNAVAILABLE.*is the bridge running") as caught,
    ):
        client.get_model()
    assert caught.value.retry_delay_s is None


class Garbles(motion_pb2_grpc.MotionServiceServicer):
    """Refuses with details that are none."""

    def __init__(self, details: bytes) -> None:
        self.details = details

    def GetModel(self, request: motion_pb2.GetModelRequest, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", self.details),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no place")


@pytest.mark.parametrize(
    "details",
    [b"\xff\xff", b"", status_pb2.Status(code=3, message="of another call").SerializeToString()],
    ids=["no message", "nothing", "of another status"],
)
def test_details_that_a_proxy_has_broken_do_not_hide_the_status(details: bytes):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    motion_pb2_grpc.add_MotionServiceServicer_to_server(Garbles(details), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with MotionClient(address) as client, pytest.raises(CallError, match="RESOURCE_EXHAUSTED: no place") as caught:
        client.get_model()
    server.stop(None)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.retry_delay_s is None


def test_frames_of_the_wrong_size_are_refused():
    message = motion_pb2.FrameChunk(contacts=b"\0\0", root_positions_m=b"\0" * 24, joint_rotations=b"\0" * 7)
    with pytest.raises(ValueError, match="joint_rotations: 7 bytes are not 2 x 22 x 4 float32 numbers"):
        read_chunk(message, BODY_22, 20.0)


def test_a_skeleton_with_other_joints_is_refused():
    with pytest.raises(ValueError, match="not those of body22"):
        read_skeleton(motion_pb2.Skeleton(name="horse", joint_names=["root"], parents=[-1]))
