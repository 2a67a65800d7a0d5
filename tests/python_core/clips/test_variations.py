from dataclasses import replace

import numpy as np
import pytest

from python_core.clips.clip import Caption, Clip, mirror_clip
from python_core.clips.variations import CURVE_RAD_S, bend, said_backward, tell_side, vary
from python_core.composed_motion import solve_track
from python_core.contract.plan import format_plan
from python_core.contract.quality import measure_quality
from python_core.features import canonical_joints, exact_features, features_to_motion
from tests.python_core.test_composition import make

LEGS = (1, 2, 4, 5, 7, 8, 10, 11)
BODY = [joint for joint in range(22) if joint not in LEGS]


def clip_of(kind: str, num_frames: int, *captions: str) -> Clip:
    joints_m = canonical_joints(make(kind, num_frames).joint_positions_m())
    return Clip("walk", joints_m, tuple(Caption(text) for text in captions), take="a take")


WALK = clip_of("walk", 101, "a person walks forward.")


def facing(clip: Clip) -> np.ndarray:
    """Angle of the hips' normal from +Z towards +X, the left, in each frame."""
    across = clip.joints_m[:, 1] - clip.joints_m[:, 2]
    return np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))


def foot_speed_m_s(clip: Clip) -> float:
    return measure_quality(features_to_motion(exact_features(clip.joints_m, 20.0), 20.0)).contact_foot_speed_m_s


@pytest.mark.parametrize(
    ("text", "backward"),
    [
        ("a person walks forward at a slow pace.", "a person walks backward at a slow pace."),
        ("a man is slowly walking forwards", "a man is slowly walking backward"),
        ("someone runs straight ahead", "someone runs backward"),
        ("Walking forward", "Walking backward"),
        ("He walks forward, THEN waves", None),
        ("a person sits down on a chair.", "a person stands up from a chair."),
        ("someone is sitting down on the bench", "someone is standing up from the bench"),
        ("a person gets up from a chair.", "a person sits down on a chair."),
        ("lie down on the floor", "get up from lying on the floor"),
        ("a person stands up from sitting on the floor.", "a person sits down on the floor."),
        ("a person walks forward and stops.", None),
        ("a person walks forward, then turns left", None),
        ("a person walks forward two steps", None),
        ("a person waves with the right hand.", None),
        ("a person sits down on a chair and waves", None),
        ("a person sits quietly on a chair", None),
    ],
)
def test_captions_say_what_is_seen_backward_or_nothing(text: str, backward: str | None):
    assert said_backward(text) == backward


def test_a_walk_goes_backward_in_a_circle_and_turns():
    made = {clip.clip_id: clip for clip in vary(WALK)}
    names = ("backward", "circle", "turned_left", "turned_left_on_way", "turned_around", "turned_around_on_way")
    assert set(made) == {f"walk@{name}" for name in names}
    for clip in made.values():
        assert (clip.source, clip.licence, clip.take) == (WALK.source, WALK.licence, "a take")
        np.testing.assert_allclose(clip.joints_m, canonical_joints(clip.joints_m), atol=1e-5)
        assert foot_speed_m_s(clip) < 0.1

    def turn(clip: Clip) -> float:
        return float(facing(clip)[-1] - facing(clip)[0])

    turns = {name: turn(made[f"walk@{name}"]) for name in names}
    assert turns == pytest.approx(
        {
            "backward": 0.0,
            "circle": CURVE_RAD_S * 5.0,
            "turned_left": np.pi / 2,
            "turned_left_on_way": np.pi / 2,
            "turned_around": np.pi,
            "turned_around_on_way": np.pi,
        },
        abs=0.15,
    )
    # Along +Z, where it faces: it goes the other way.
    assert made["walk@backward"].joints_m[-1, 0, 2] == pytest.approx(-WALK.joints_m[-1, 0, 2], abs=0.05)
    for name, clip in made.items():
        on_spot = name in ("walk@turned_left", "walk@turned_around")
        assert (np.ptp(clip.joints_m[:, 0, [0, 2]], axis=0).max() < 0.35) == on_spot, name
    assert made["walk@turned_around_on_way"].captions[0].text == "a person walks forward, turns around and walks back."
    plan = made["walk@turned_left_on_way"].plan
    assert plan is not None
    assert format_plan(plan) == "1. walk forward, 2.0 s 2. turn to the left, 1.0 s 3. walk forward, 2.0 s"
    mirrored = mirror_clip(made["walk@turned_left"])
    assert mirrored.captions[0].text == "a person turns to the right."
    assert turn(mirrored) == pytest.approx(-np.pi / 2, abs=0.15)


def test_bent_feet_stand_where_they_stand_and_the_body_turns_whole():
    yaw, track = np.arange(101) / 20, solve_track(WALK)
    bent = bend(track, yaw).joints_m.numpy()
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y, z = np.moveaxis(WALK.joints_m[:, BODY] - WALK.joints_m[:, :1], -1, 0)
    turned = np.stack([x * cos + z * sin, y, z * cos - x * sin], axis=-1)
    np.testing.assert_allclose(bent[:, BODY] - bent[:, :1], turned, atol=1e-5)
    # It goes where it faces, as far as it went.
    way_m = [np.linalg.norm(np.diff(m[:, 0, [0, 2]], axis=0), axis=-1).sum() for m in (bent, WALK.joints_m)]
    assert way_m[0] == pytest.approx(way_m[1], rel=1e-3)
    assert foot_speed_m_s(replace(WALK, joints_m=canonical_joints(bent.astype(np.float32)))) < 0.1
    np.testing.assert_allclose(bend(track, np.zeros(101)).joints_m, WALK.joints_m, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "caption"),
    [
        ("walk", "a person walks forward, then sits down."),
        ("walk", "a person walks in a curve to the right."),
        ("stand", "a person stands still."),
        ("wave", "a person waves with the right hand."),
    ],
)
def test_what_rules_do_not_know_has_no_variation(kind: str, caption: str):
    assert [*vary(clip_of(kind, 81, caption))] == []


def test_what_does_not_go_straight_is_not_bent():
    curved = bend(solve_track(WALK), np.arange(101) / 20).joints_m.numpy()
    clip = replace(WALK, joints_m=canonical_joints(curved.astype(np.float32)))
    assert [variation.clip_id for variation in vary(clip)] == ["walk@backward"]


def test_the_side_of_steps_sideways_is_told_where_it_is_not():
    stand = clip_of("stand", 60, "a person steps sideways.", "someone moves sideways to the left", "a person stands")
    going_m = np.linspace(0, 1.5, 60)[:, None, None]
    left, ahead = (
        replace(stand, joints_m=(stand.joints_m + going_m * way).astype(np.float32)) for way in ([1, 0, 0], [0, 0, 1])
    )
    others = ("someone moves sideways to the left", "a person stands")
    told = [caption.text for caption in tell_side(left).captions]
    assert told == ["a person steps sideways to the left.", *others]
    right = replace(mirror_clip(left), captions=stand.captions)
    assert tell_side(right).captions[0].text == "a person steps sideways to the right."
    assert tell_side(ahead) is ahead
    arabesque = replace(left, captions=(Caption("a person is doing a sideways arabesque"),))
    assert tell_side(arabesque).captions == arabesque.captions
