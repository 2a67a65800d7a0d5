"""Requests that cannot be served are refused by the name of every field that is wrong."""

import math

import pytest

from bridge.pacing import Pacing
from bridge.request import (
    History,
    Limits,
    RequestError,
    read_decode_request,
    read_plan_request,
    read_stream_request,
)
from bridge.stubs import motion_pb2
from python_core.contract.bundle import SamplingDefaults
from python_core.contract.plan import Beat, Plan

LIMITS = Limits(max_duration_s=10.0, code_duration_s=0.2, num_codes_known=512)
DEFAULTS = SamplingDefaults(temperature=0.7, top_p=0.9)
ROOT = motion_pb2.RootPlace(x_m=1, z_m=2, yaw_rad=3)
WALK = motion_pb2.Beat(text="walk", duration_s=1.2)


def stream(**fields: object) -> motion_pb2.StreamMotionRequest:
    return motion_pb2.StreamMotionRequest(**{"prompt": "a person walks", **fields})


def violations(**fields: object) -> dict[str, str]:
    with pytest.raises(RequestError) as caught:
        read_stream_request(stream(**fields), LIMITS, DEFAULTS)
    return {violation.field: violation.description for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"beats": [WALK] * 6}, "beats", "at most 5, got 6"),
        ({"beats": [WALK, motion_pb2.Beat(text="", duration_s=1)]}, "beats[1]", "words with single spaces"),
        ({"beats": [motion_pb2.Beat(text="a <think>", duration_s=1)]}, "beats[0]", "cannot hold '<'"),
        ({"beats": [motion_pb2.Beat(text="walk", duration_s=0.25)]}, "beats[0]", "tenths of a second, got 0.25"),
        ({"beats": [motion_pb2.Beat(text="walk", duration_s=math.nan)]}, "beats[0]", "got nan"),
        ({"beats": [motion_pb2.Beat(text="walk")]}, "beats[0]", "lasts 0.1 to 60 seconds, got 0.0"),
        ({"beats": [motion_pb2.Beat(text="walk", duration_s=1, body_parts=["tail"])]}, "beats[0]", "['tail']"),
        ({"beats": [WALK], "reasoning": motion_pb2.REASONING_OFF}, "reasoning", "must not be REASONING_OFF"),
        ({"history": motion_pb2.History(root=ROOT)}, "history.codes", "1 to 64 codes, got 0"),
        ({"history": motion_pb2.History(codes=[1] * 65, root=ROOT)}, "history.codes", "got 65"),
        ({"history": motion_pb2.History(codes=[1, 512], root=ROOT)}, "history.codes", "0 to 511, got 512 at place 1"),
        ({"history": motion_pb2.History(codes=[-1], root=ROOT)}, "history.codes", "got -1 at place 0"),
        ({"history": motion_pb2.History(codes=[1])}, "history.root", "next_root of the chunk"),
        (
            {"history": motion_pb2.History(codes=[1], root=motion_pb2.RootPlace(yaw_rad=math.inf))},
            "history.root",
            "yaw_rad of a history must be -10000 to 10000, got inf",
        ),
        (
            {"history": motion_pb2.History(codes=[1], root=motion_pb2.RootPlace(x_m=3e38))},
            "history.root",
            "root_x_m of a history must be -100000 to 100000, got 3e+38",
        ),
        ({"pacing": motion_pb2.Pacing(mode=9)}, "pacing.mode", "PACING_MODE_REALTIME (2), got 9"),  # pyright: ignore[reportArgumentType]
        (
            {"pacing": motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=0.1)},
            "pacing.max_lead_s",
            "0.2 (one code) to 10",
        ),
        (
            {"pacing": motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=math.nan)},
            "pacing.max_lead_s",
            "got nan",
        ),
        ({"pacing": motion_pb2.Pacing(max_lead_s=1)}, "pacing.max_lead_s", "for PACING_MODE_REALTIME only"),
        ({"best_of": 0}, "best_of", "1 to 8, got 0"),
        ({"best_of": 9}, "best_of", "1 to 8, got 9"),
        ({"min_quality": 1.5}, "min_quality", "0 to 1, got 1.5"),
        ({"min_quality": math.nan}, "min_quality", "got nan"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_came(fields: dict[str, object], field: str, told: str):
    found = violations(**fields)
    assert list(found) == [field]
    assert told in found[field]


def test_every_field_that_is_wrong_is_named_at_once():
    found = violations(
        prompt="",
        best_of=0,
        pacing=motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME, max_lead_s=99),
        max_duration_s=-1,
    )
    assert list(found) == ["prompt", "max_duration_s", "pacing.max_lead_s", "best_of"]


def test_a_request_becomes_what_it_says():
    request = read_stream_request(
        stream(
            seed=5,
            max_duration_s=1.4,
            beats=[WALK, motion_pb2.Beat(text="wave", duration_s=0.8, body_parts=["left arm"])],
            history=motion_pb2.History(codes=[7, 8], root=ROOT),
            pacing=motion_pb2.Pacing(mode=motion_pb2.PACING_MODE_REALTIME),
            best_of=3,
            min_quality=0.5,
        ),
        LIMITS,
        DEFAULTS,
    )
    assert request.motion.beats == Plan((Beat("walk", 1.2), Beat("wave", 0.8, ("left arm",))))
    assert isinstance(request.motion.history, History)
    assert request.motion.history.codes == (7, 8)
    assert (request.motion.history.root_x_m, request.motion.history.yaw_rad) == (1, 3)
    assert (request.motion.max_codes, request.best_of, request.min_quality) == (7, 3, 0.5)
    assert request.pacing == Pacing(1.0)
    assert read_stream_request(stream(), LIMITS, DEFAULTS).pacing == Pacing(None)


def test_the_texts_of_beats_stand_for_a_prompt_that_is_empty():
    beats = [WALK, motion_pb2.Beat(text="sit down", duration_s=1)]
    assert read_stream_request(stream(prompt="", beats=beats), LIMITS, DEFAULTS).motion.prompt == "walk, then sit down"
    assert read_stream_request(stream(beats=beats), LIMITS, DEFAULTS).motion.prompt == "a person walks"


def test_a_plan_is_asked_for_with_reasoning_and_its_prompt_is_checked():
    request = read_plan_request(motion_pb2.PlanMotionRequest(prompt="walk", seed=3), LIMITS, DEFAULTS)
    assert (request.reasoning, request.seed, request.temperature) == (True, 3, 0.7)
    with pytest.raises(RequestError, match="prompt: must say what the character does"):
        read_plan_request(motion_pb2.PlanMotionRequest(), LIMITS, DEFAULTS)


def test_codes_to_decode_are_counted_and_checked():
    request = read_decode_request(motion_pb2.DecodeMotionRequest(codes=[1, 2]), LIMITS)
    assert (request.codes, request.history) == ((1, 2), None)
    for codes, told in (([], "1 to 4096 codes, got 0"), ([0] * 4097, "got 4097"), ([600], "got 600 at place 0")):
        with pytest.raises(RequestError, match=f"codes: .*{told}"):
            read_decode_request(motion_pb2.DecodeMotionRequest(codes=codes), LIMITS)
