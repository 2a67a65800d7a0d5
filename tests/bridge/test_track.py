import pytest

from bridge.stubs import motion_pb2
from bridge.track import StreamError, Track, beats_left, steered
from bridge.wire import WIRE_VERSION
from python_core.contract.plan import Beat, Plan, parse_plan
from python_core.contract.skeleton import BODY_22

MODEL = motion_pb2.Model(
    revision="a" * 64,
    wire_version=WIRE_VERSION,
    frame_rate_hz=20,
    frames_per_code=4,
    skeleton=motion_pb2.Skeleton(
        name=BODY_22.name,
        joint_names=BODY_22.joint_names,
        parents=BODY_22.parents,
        rest_offsets_m=BODY_22.offsets_m.astype("<f4").tobytes(),
    ),
)
IDENTITY = bytes.fromhex("0000000000000000000000000000803f")


def request(**fields: object) -> motion_pb2.StreamMotionRequest:
    return motion_pb2.StreamMotionRequest(
        **{"prompt": "a person walks", "reasoning": motion_pb2.REASONING_OFF, **fields}
    )


def header(revision: str = "a" * 64) -> motion_pb2.MotionEvent:
    described = motion_pb2.Model()
    described.CopyFrom(MODEL)
    described.revision = revision
    return motion_pb2.MotionEvent(header=motion_pb2.StreamHeader(model=described))


def chunk(place: int, code: int) -> motion_pb2.MotionEvent:
    return motion_pb2.MotionEvent(
        chunk=motion_pb2.FrameChunk(
            first_frame=4 * place,
            code=code,
            root_positions_m=bytes(48),
            joint_rotations=IDENTITY * 22 * 4,
            contacts=bytes(4),
            next_root=motion_pb2.RootPlace(x_m=code, z_m=-code, yaw_rad=code / 100),
        )
    )


def plan_event(text: str) -> motion_pb2.MotionEvent:
    beats = [motion_pb2.Beat(text=beat.text, duration_s=beat.duration_s) for beat in parse_plan(text).beats]
    return motion_pb2.MotionEvent(plan=motion_pb2.Plan(beats=beats, text=text))


def track(num_codes: int, first_code: int = 0, starts_at_s: float = 0.0, **fields: object) -> Track:
    """A track that has received codes `first_code`, `first_code` + 1 and so on."""
    made = Track(request(**fields), starts_at_s)
    made.feed(header())
    for place in range(num_codes):
        made.feed(chunk(place, first_code + place))
    return made


@pytest.mark.parametrize(
    ("playhead_s", "lead_s", "num_codes"),
    [
        (0.0, 0.4, 2),
        (0.01, 0.4, 3),
        (0.2, 0.4, 3),
        (0.2000001, 0.4, 3),
        (0.19, 0.0, 1),
        (0.0, 0.0, 0),
        (1.05, 0.4, 8),
        (1.9, 0.4, 10),
        (60.0, 0.4, 10),
        (-3.0, 0.4, 0),
    ],
)
def test_the_commit_point_is_the_first_code_boundary_after_playhead_and_lead(
    playhead_s: float, lead_s: float, num_codes: int
):
    commit = track(10).commit(playhead_s, lead_s)
    assert commit.num_codes == num_codes
    assert commit.at_s == pytest.approx(0.2 * num_codes)


def test_the_history_is_the_codes_before_the_commit_point_and_where_the_last_of_them_ends():
    commit = track(10).commit(0.5)
    assert commit.history is not None
    assert list(commit.history.codes) == [0, 1, 2, 3, 4]
    assert (commit.history.root.x_m, commit.history.root.z_m) == (4, -4)


def test_a_long_history_is_its_last_64_codes():
    history = track(100).history(80)
    assert history is not None
    assert list(history.codes) == list(range(16, 80))
    assert history.root.x_m == 79


def test_a_chain_of_orders_keeps_one_time_line_and_the_history_before_its_last_order():
    first = track(10)
    second = steered(first, playhead_s=0.5, request=request(prompt="jump"))
    assert second.starts_at_s == pytest.approx(1.0)
    second.feed(header())
    early = second.commit(playhead_s=0.55)  # Nothing of the second has come: its own history goes on.
    assert (early.num_codes, early.at_s) == (0, pytest.approx(1.0))
    assert early.history is not None
    assert list(early.history.codes) == [0, 1, 2, 3, 4]
    for place in range(5):
        second.feed(chunk(place, 50 + place))
    third = steered(second, playhead_s=1.1, request=request(prompt="sit"))
    assert third.starts_at_s == pytest.approx(1.6)
    assert isinstance(third.request, motion_pb2.StreamMotionRequest)
    assert list(third.request.history.codes) == [0, 1, 2, 3, 4, 50, 51, 52]
    assert third.request.history.root.x_m == 52


def test_codes_of_another_bundle_are_refused():
    other = steered(track(5), playhead_s=0.0, request=request())
    with pytest.raises(StreamError, match="belong to the bundle aaaaaaaaaaaa, this server runs bbbbbbbbbbbb"):
        other.feed(header("b" * 64))


@pytest.mark.parametrize("theirs", ["1.0", "2.9", "", "1.x"])
def test_a_server_that_would_drop_what_we_ask_for_is_refused(theirs: str):
    older = header()
    older.header.model.wire_version = theirs
    with pytest.raises(StreamError, match=f"speaks wire version '{theirs}', this client '{WIRE_VERSION}'"):
        Track(request()).feed(older)


def test_what_a_later_version_sends_besides_is_passed_over():
    later = header()
    later.header.model.wire_version = "1.99"
    grown = Track(request())
    grown.feed(later)
    assert grown.feed(motion_pb2.MotionEvent.FromString(bytes.fromhex("fa0700"))) is None  # Field 127, empty.
    assert grown.feed(chunk(0, 3)) is not None
    assert grown.codes == [3]


def test_a_negative_lead_is_refused():
    with pytest.raises(ValueError, match=r"commit_lead_s must be 0 or more, got -0\.1"):
        track(2).commit(0.0, -0.1)


def test_what_is_left_of_a_plan_begins_with_the_rest_of_the_beat_under_way():
    plan = Plan((Beat("walk", 2.0), Beat("wave", 0.8, ("left arm",)), Beat("sit", 1.6)))
    assert beats_left(plan, 0.0) == plan.beats
    assert beats_left(plan, 2.2) == (Beat("wave", 0.6, ("left arm",)), Beat("sit", 1.6))
    assert beats_left(plan, 2.8) == (Beat("sit", 1.6),)
    assert beats_left(plan, 4.4) == ()


def test_the_rest_of_a_stream_that_broke_is_what_has_not_come():
    broken = track(3, max_duration_s=2.0)
    rest = broken.rest(max_duration_s=10.0)
    assert isinstance(rest, motion_pb2.StreamMotionRequest)
    assert rest.max_duration_s == pytest.approx(1.4)
    assert list(rest.history.codes) == [0, 1, 2]
    broken.resume(rest)
    assert broken.feed(header()) is None
    came = [broken.feed(chunk(place, 70 + place)) for place in range(7)]
    assert [event.chunk.first_frame for event in came if event is not None] == [4 * place for place in range(3, 10)]
    last = broken.feed(motion_pb2.MotionEvent(summary=motion_pb2.StreamSummary(num_codes=7, num_frames=28)))
    assert last is not None
    assert (last.summary.num_codes, last.summary.num_frames) == (10, 40)
    assert last.summary.duration_s == pytest.approx(2.0)
    assert broken.codes == [0, 1, 2, *range(70, 77)]


@pytest.mark.parametrize("text", ["1. walk, 0.6 s 2. sit, 0.8 s", "1. sit, 1.4 s"])
def test_the_rest_of_a_planned_motion_is_what_its_plan_has_left(text: str):
    planned = Track(motion_pb2.StreamMotionRequest(prompt="walk, then sit"))
    planned.feed(header())
    planned.feed(plan_event(text))
    for place in range(4):
        planned.feed(chunk(place, place))
    rest = planned.rest(max_duration_s=10.0)
    assert isinstance(rest, motion_pb2.StreamMotionRequest)
    assert [(beat.text, round(beat.duration_s, 1)) for beat in rest.beats] == [("sit", 0.6)]
    assert rest.max_duration_s == pytest.approx(0.6)
    assert rest.reasoning != motion_pb2.REASONING_OFF  # Or the motion could end at any code.
    for place in range(4, 7):
        planned.feed(chunk(place, place))
    assert planned.rest(max_duration_s=10.0) is None
    summary = planned.close().summary
    assert (summary.num_codes, summary.stop_reason) == (7, motion_pb2.STOP_REASON_PLAN_DURATION)


def test_a_chosen_take_is_asked_for_again_and_its_codes_do_not_come_twice():
    chosen = track(2, best_of=4)
    assert chosen.rest(max_duration_s=10.0) is chosen.request
    chosen.resume(chosen.request)
    chosen.feed(header())
    assert [chosen.feed(chunk(place, place)) is None for place in range(3)] == [True, True, False]
    assert chosen.codes == [0, 1, 2]
    chosen.resume(chosen.request)
    chosen.feed(header())
    with pytest.raises(StreamError, match="sends code 9 at place 0, it was 0"):
        chosen.feed(chunk(0, 9))


def test_the_rest_of_codes_to_decode_is_the_codes_that_have_not_come():
    decoded = Track(motion_pb2.DecodeMotionRequest(codes=[5, 6, 7]))
    decoded.feed(header())
    decoded.feed(chunk(0, 5))
    rest = decoded.rest(max_duration_s=10.0)
    assert isinstance(rest, motion_pb2.DecodeMotionRequest)
    assert (list(rest.codes), list(rest.history.codes)) == ([6, 7], [5])
