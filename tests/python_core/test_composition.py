from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from python_core.body_mix import mix_tracks, turned
from python_core.clips.clip import Caption, Clip, mirror_clip, mirror_text
from python_core.clips.takes import take_half
from python_core.composed_motion import (
    BLEND_FRAMES,
    FARTHEST_FOOT_M,
    FRAME_RATE_HZ,
    Composed,
    CompositionError,
    join_tracks,
    solve_track,
)
from python_core.composition import MAX_FRAMES, Member, Pool, Recipe, check_quality
from python_core.contract.motion import Motion
from python_core.contract.plan import Plan, format_plan, parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, exact_features, mirror_joints
from python_core.reasoning.planner import Planner
from python_core.vqvae import FRAMES_PER_CODE

WALK_M_S = 0.9


def join_clips(clips: Sequence[Clip]) -> Composed:
    return join_tracks([solve_track(clip) for clip in clips])


def mix_clips(lower: Clip, upper: Clip, part: str = "upper body") -> Composed:
    return mix_tracks(solve_track(lower), solve_track(upper), part)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors here are small: threads would wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def about(axis: int, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions that turn about an axis by angles in radians, [F] -> [F, 4]."""
    rotations = np.zeros((len(angles), 4))
    rotations[:, axis], rotations[:, 3] = np.sin(angles / 2), np.cos(angles / 2)
    return rotations


def leg_angles(across_m: NDArray[np.float64], height_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Turns about X of hip, knee and ankle that put the ankle before and below the hip and keep the foot level."""
    thigh, shin = 0.3919, 0.4290
    reach = np.hypot(across_m, height_m)
    knee = np.arccos((reach**2 - thigh**2 - shin**2) / (2 * thigh * shin))
    hip = -np.arctan2(across_m, height_m) - np.arctan2(shin * np.sin(knee), thigh + shin * np.cos(knee))
    return hip, knee, -hip - knee


def make(kind: str, num_frames: int, phase: float = 0.0, wide_m: float = 0.0) -> Motion:
    """A body whose standing feet stand exactly: `walk` at 0.9 m/s with steps of 0.5 s, `stand`, `wave` (right hand),
    `crouch`, or `lie`.

    Args:
        kind: What it does.
        num_frames: At 20 Hz.
        phase: Of the first step, 0 to 1.
        wide_m: How far the left foot stands before the right, where it stands.
    """
    time_s = np.arange(num_frames) / FRAME_RATE_HZ
    rotations = np.tile(np.array([0.0, 0, 0, 1]), (num_frames, 22, 1))
    rotations[:, 16], rotations[:, 17] = about(2, np.full(num_frames, -1.3)), about(2, np.full(num_frames, 1.3))
    root_m = np.zeros((num_frames, 3))
    root_m[:, 1] = BODY_22.rest_root_height_m - 0.06
    hang_m = np.full(num_frames, 0.3919 + 0.4290 - 0.06)
    for side, (hip, knee, ankle) in enumerate(((1, 4, 7), (2, 5, 8))):
        across_m, lift_m = np.full(num_frames, wide_m * (0.5 - side)), np.zeros(num_frames)
        if kind == "walk":
            cycle = (time_s + phase + 0.5 * side) % 1.0
            stands = cycle < 0.6
            swing = (cycle - 0.6) / 0.4
            smooth = swing**2 * (3 - 2 * swing)
            across_m = np.where(stands, WALK_M_S * (0.3 - cycle), WALK_M_S * 0.3 * (2 * smooth - 1))
            lift_m = np.where(stands, 0, 0.12 * np.sin(np.pi * swing.clip(0, 1)))
        elif kind == "crouch":
            lift_m = 0.3 * (0.5 - 0.5 * np.cos(2 * np.pi * time_s / time_s[-1]))
        for joint, angles in zip((hip, knee, ankle), leg_angles(across_m, hang_m - lift_m), strict=True):
            rotations[:, joint] = about(0, angles)
        if kind == "crouch" and side == 0:
            root_m[:, 1] -= lift_m
    if kind == "walk":
        root_m[:, 2] = WALK_M_S * time_s
        for joint, sign in ((16, 1), (17, -1)):
            rotations[:, joint] = about(2, np.full(num_frames, -1.3 * sign))
            swing = 0.3 * np.sin(2 * np.pi * (time_s + phase))
            rotations[:, joint + 2] = about(1, -sign * (0.3 + swing * sign))
    elif kind == "wave":
        raised = (time_s / 0.8).clip(0, 1) ** 2 * (3 - 2 * (time_s / 0.8).clip(0, 1))
        rotations[:, 17] = about(2, 1.3 - 1.8 * raised)
        rotations[:, 19] = about(1, raised * (0.8 + 0.5 * np.sin(2 * np.pi * time_s)))
    elif kind == "lie":
        rotations[:, 0] = about(0, np.full(num_frames, -np.pi / 2))
        root_m[:, 1] = 0.15
    contacts = np.zeros((num_frames, 4), dtype=np.bool_)
    return Motion(root_m.astype(np.float32), rotations.astype(np.float32), contacts, FRAME_RATE_HZ)


def clip_of(clip_id: str, motion: Motion, *captions: str, source: str = "made", licence: str = "CC0-1.0") -> Clip:
    joints_m = canonical_joints(motion.joint_positions_m())
    return Clip(clip_id, joints_m, tuple(Caption(text) for text in captions), source, licence, take=f"take {clip_id}")


WALK = clip_of("walk", make("walk", 60), "a person walks forward.", "the man walks ahead.", "walking straight")
STAND = clip_of("stand", make("stand", 50), "someone stands still.", source="other", licence="CC BY 4.0; CMU")
WAVE = clip_of("wave", make("wave", 60), "a person waves with the right hand.", licence="CC0-1.0; CMU")
CROUCH = clip_of("crouch", make("crouch", 60), "a person crouches down.")
HEIGHTS_M = 0.4 * np.sin(np.pi * np.linspace(0, 1, 50))[:, None]
JUMP = replace(STAND, clip_id="jump", joints_m=(STAND.joints_m + HEIGHTS_M[..., None] * [0, 1, 0]).astype(np.float32))
LIE = clip_of("lie", make("lie", 60), "a person lies on the back.")


def joints_of(composed: Composed) -> NDArray[np.float32]:
    return composed.motion.joint_positions_m()


def speeds_of(joints_m: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.linalg.norm(np.diff(joints_m.astype(np.float64), axis=0), axis=-1) * FRAME_RATE_HZ


def with_yaw(clip: Clip, yaw: float, x_m: float, z_m: float) -> Clip:
    """The same motion elsewhere."""
    x, y, z = np.moveaxis(clip.joints_m, -1, 0)
    turned_m = np.stack([x * np.cos(yaw) + z * np.sin(yaw) + x_m, y, z * np.cos(yaw) - x * np.sin(yaw) + z_m], axis=-1)
    return replace(clip, joints_m=turned_m.astype(np.float32))


def test_a_straight_walk_joined_to_itself_goes_on_with_its_speed_and_heading():
    composed = join_clips([WALK, WALK])
    root_m = joints_of(composed)[:, 0]
    (first, end), margin = composed.seams[0], 10
    assert end - first == BLEND_FRAMES
    forward_m = np.diff(root_m[first - margin : end + margin, 2]) * FRAME_RATE_HZ
    assert forward_m == pytest.approx(WALK_M_S, abs=0.05)
    assert root_m[:, 0] == pytest.approx(0, abs=0.01)
    assert turned(solve_track(replace(WALK, joints_m=joints_of(composed)))) == pytest.approx(0, abs=0.01)


def test_the_second_clip_goes_on_where_and_how_the_first_ends_wherever_it_was_recorded():
    expected = joints_of(join_clips([WALK, WALK]))
    moved = joints_of(join_clips([WALK, with_yaw(WALK, yaw=2.0, x_m=3.0, z_m=-5.0)]))
    np.testing.assert_allclose(moved, expected, atol=1e-4)


@pytest.mark.parametrize("num_clips", [2, 3, 5])
def test_durations_are_exact_and_boundaries_are_where_codes_begin(num_clips):
    composed = join_clips([CROUCH, STAND, WAVE] if num_clips == 3 else [WALK] * num_clips)
    num_rows = len(exact_features(composed.motion.joint_positions_m(), FRAME_RATE_HZ))
    assert num_rows % FRAMES_PER_CODE == 0
    assert sum(composed.part_frames) == num_rows
    assert all(frames % FRAMES_PER_CODE == 0 for frames in composed.part_frames)
    assert sum(composed.durations_s) == pytest.approx(num_rows / FRAME_RATE_HZ, abs=1e-9)
    ends = np.cumsum(composed.part_frames[:-1])
    assert [first + BLEND_FRAMES // 2 for first, _ in composed.seams] == ends.tolist()


@pytest.mark.parametrize(
    "composed",
    [lambda: join_clips([WALK, WALK]), lambda: join_clips([STAND, CROUCH, WAVE]), lambda: mix_clips(WALK, WAVE)],
)
def test_bones_keep_their_length(composed):
    joints_m = joints_of(composed())
    bones_m = np.linalg.norm(joints_m[:, 1:] - joints_m[:, list(BODY_22.parents[1:])], axis=-1)
    lengths_m = np.linalg.norm(BODY_22.offsets_m[1:], axis=-1)
    np.testing.assert_allclose(bones_m, np.broadcast_to(lengths_m, bones_m.shape), atol=1e-5)


@pytest.mark.parametrize("parts", [[WALK, WALK], [STAND, WAVE], [STAND, CROUCH]])
def test_no_joint_hurries_at_the_seam(parts):
    composed = join_clips(parts)
    ((first, end),) = composed.seams
    speeds_m_s = speeds_of(joints_of(composed))[first - 1 : end]
    fastest_m_s = np.max([speeds_of(clip.joints_m).max() for clip in parts])
    assert speeds_m_s.max() < 1.5 * fastest_m_s


def test_before_and_after_the_seam_the_motions_are_those_of_the_clips():
    composed = join_clips([STAND, WAVE])
    joints_m, ((first, end),) = joints_of(composed), composed.seams
    np.testing.assert_allclose(joints_m[:first], STAND.joints_m[:first], atol=1e-5)
    # heights, since the second is turned to go on from the first
    heights_m = joints_m[end:, :, 1]
    starts = range(len(WAVE.joints_m) - len(heights_m) + 1)
    assert min(np.abs(WAVE.joints_m[k : k + len(heights_m), :, 1] - heights_m).max() for k in starts) < 1e-3


@pytest.mark.parametrize("wide_m", [0.0, 0.06, 0.12])
def test_feet_that_stand_on_both_sides_of_a_seam_stay_where_they_stand(wide_m):
    wide = clip_of("wide", make("stand", 50, wide_m=wide_m), "a person stands.")
    joints_m = joints_of(join_clips([STAND, wide]))
    toes_m = joints_m[:, [10, 11]]
    assert np.abs(toes_m - toes_m[0]).max() < 1e-3
    assert speeds_of(joints_m)[:, [7, 8]].max() < 0.05


def test_a_foot_that_was_held_goes_its_own_way_after_it_has_lifted():
    wide = clip_of("wide", make("stand", 50, wide_m=0.08), "a person stands.")
    walk = clip_of("late", make("walk", 60, phase=0.2), "a person walks.")
    composed = join_clips([wide, STAND])
    assert np.abs(np.diff(joints_of(composed)[:, 10], axis=0)).max() < 1e-3
    # in a walk nothing of a correction is left after a cycle
    joints_m = joints_of(join_clips([WALK, walk]))
    np.testing.assert_allclose(
        joints_m[-5:] - joints_m[-5:, :1],
        _nearest(walk.joints_m - walk.joints_m[:, :1], joints_m[-5:] - joints_m[-5:, :1]),
        atol=1e-3,
    )


def _nearest(joints_m: NDArray[np.floating], wanted_m: NDArray[np.floating]) -> NDArray[np.floating]:
    starts = range(len(joints_m) - len(wanted_m) + 1)
    best = min(starts, key=lambda start: float(np.abs(joints_m[start : start + len(wanted_m)] - wanted_m).max()))
    return joints_m[best : best + len(wanted_m)]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([STAND, LIE], "poses differ"),
        (
            [STAND, clip_of("far", make("stand", 50, wide_m=2.5 * FARTHEST_FOOT_M), "a person stands.")],
            "feet stand apart",
        ),
        ([STAND, replace(STAND, joints_m=STAND.joints_m[:8])], "a part is too short"),
    ],
)
def test_clips_that_do_not_go_together_are_refused_with_a_reason(parts, reason):
    with pytest.raises(CompositionError) as error:
        join_clips(parts)
    assert error.value.reason == reason


def test_a_clip_that_is_not_on_our_skeleton_or_at_another_rate_is_refused():
    with pytest.raises(ValueError, match="canonical_joints"):
        join_clips([STAND, replace(STAND, joints_m=1.1 * STAND.joints_m)])
    with pytest.raises(ValueError, match=r"20 Hz, got 30\.0"):
        join_clips([STAND, replace(STAND, frame_rate_hz=30.0)])
    with pytest.raises(ValueError, match="2 clips or more, got 1"):
        join_clips([STAND])


@pytest.mark.parametrize("parts", [[WALK, WALK], [STAND, WAVE], [STAND, CROUCH, WAVE]])
def test_mirrored_clips_join_to_the_mirrored_motion(parts):
    mirrored = join_clips([mirror_clip(clip) for clip in parts])
    np.testing.assert_allclose(joints_of(mirrored), mirror_joints(joints_of(join_clips(parts))), atol=1e-4)


@pytest.mark.parametrize(("part", "mirrored_part"), [("upper body", "upper body"), ("right arm", "left arm")])
def test_mirrored_clips_mix_to_the_mirrored_motion(part, mirrored_part):
    mirrored = mix_clips(mirror_clip(WALK), mirror_clip(WAVE), mirrored_part)
    np.testing.assert_allclose(joints_of(mirrored), mirror_joints(joints_of(mix_clips(WALK, WAVE, part))), atol=1e-4)


def test_one_arm_waves_and_all_else_walks():
    composed = mix_clips(WALK, WAVE, "right arm")
    joints_m = joints_of(composed)
    right_arm = [17, 19, 21]
    others = [joint for joint in range(22) if joint not in right_arm]
    np.testing.assert_allclose(joints_m[:, others], WALK.joints_m[: len(joints_m), others], atol=1e-4)
    heights_m = joints_m[:, 21, 1] - WAVE.joints_m[: len(joints_m), 21, 1]
    assert np.abs(heights_m - heights_m[0]).max() < 1e-4


def test_an_upper_body_goes_over_walking_legs_and_stays_upright():
    joints_m = joints_of(mix_clips(WALK, WAVE))
    legs = [0, 1, 2, 4, 5, 7, 8, 10, 11]
    np.testing.assert_allclose(joints_m[:, legs], WALK.joints_m[: len(joints_m), legs], atol=1e-4)
    upper = [9, 12, 15, 16, 17, 18, 19, 20, 21]
    expected = WAVE.joints_m[: len(joints_m), upper] - WAVE.joints_m[: len(joints_m), :1]
    np.testing.assert_allclose(joints_m[:, upper] - joints_m[:, :1], expected, atol=1e-3)


def test_a_lower_that_loops_goes_on_as_long_as_the_upper():
    short = replace(WALK, joints_m=WALK.joints_m[:45])
    composed = mix_clips(short, WAVE, "right arm")
    assert composed.motion.num_frames == 57
    assert len(composed.seams) == 1
    assert np.diff(joints_of(composed)[:, 0, 2]) * FRAME_RATE_HZ == pytest.approx(WALK_M_S, abs=0.05)


@pytest.mark.parametrize(
    ("lower", "upper", "reason"),
    [
        (CROUCH, WAVE, "lower bends down"),
        (JUMP, WAVE, "lower jumps"),
        (LIE, WAVE, "lower bends down"),
        (STAND, LIE, "upper bends down"),
        (STAND, WALK, "upper travels"),
        (STAND, JUMP, "upper jumps"),
    ],
)
def test_bodies_that_do_not_mix_are_refused_with_a_reason(lower, upper, reason):
    with pytest.raises(CompositionError) as error:
        mix_clips(lower, upper)
    assert error.value.reason == reason


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="expected one of left arm, right arm, upper body, got 'tail'"):
        mix_clips(WALK, WAVE, "tail")


Change = Callable[[NDArray[np.float32], NDArray[np.float32], Composed], None]


def slide(root_m: NDArray[np.float32], _: NDArray[np.float32], composed: Composed) -> None:
    """10 cm a second along z, with both feet on the floor."""
    root_m[:, 2] += 0.1 / FRAME_RATE_HZ * np.arange(len(root_m))


def sink(root_m: NDArray[np.float32], _: NDArray[np.float32], composed: Composed) -> None:
    """3 cm below the floor."""
    root_m[:, 1] -= 0.03


def shake(root_m: NDArray[np.float32], _: NDArray[np.float32], composed: Composed) -> None:
    """4 mm up and down from frame to frame: a third difference of 8 times that."""
    root_m[:, 1] += 0.004 * (-1) ** np.arange(len(root_m))


def hurry(_: NDArray[np.float32], rotations: NDArray[np.float32], composed: Composed) -> None:
    """The left arm goes up within the first half of the blend."""
    first = composed.seams[0][0]
    share = ((np.arange(len(rotations)) - first) / (BLEND_FRAMES / 2)).clip(0, 1)
    rotations[:, 16] = about(2, 1.5 * share**2 * (3 - 2 * share) - 1.3)


def skate(root_m: NDArray[np.float32], _: NDArray[np.float32], composed: Composed) -> None:
    """2 m a second, with both feet on the floor."""
    root_m[:, 2] += 2.0 / FRAME_RATE_HZ * np.arange(len(root_m))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (slide, "slides"),
        (sink, "goes through the floor"),
        (shake, "shakes"),
        (hurry, "hurries at the seam"),
        (skate, "poor contact_foot_speed_m_s"),
    ],
)
def test_what_moves_worse_than_its_parts_is_rejected_with_its_reason(change: Change, reason: str):
    good, members = join_clips([STAND, WAVE]), members_of(STAND, WAVE)
    check_quality(good, members)
    root_m, rotations = good.motion.root_positions_m.copy(), good.motion.joint_rotations.copy()
    change(root_m, rotations, good)
    bad = replace(good, motion=replace(good.motion, root_positions_m=root_m, joint_rotations=rotations))
    with pytest.raises(CompositionError) as error:
        check_quality(bad, members)
    assert error.value.reason == reason


def test_what_its_parts_do_as_well_is_not_held_against_a_composition():
    """A walk that slides and shakes, joined to itself."""
    time = np.arange(len(WALK.joints_m))[:, None, None]
    slid_m, shaken_m = np.array([0, 0, 0.1]) * time / FRAME_RATE_HZ, np.array([0, 0.002, 0]) * (-1.0) ** time
    rough_m = WALK.joints_m + slid_m + shaken_m
    rough = replace(WALK, joints_m=rough_m.astype(np.float32))
    composed = join_clips([rough, rough])
    check_quality(composed, members_of(rough, rough))
    with pytest.raises(CompositionError, match="slides"):
        check_quality(composed, members_of(WALK, WALK))


def test_a_composition_of_more_than_49_codes_is_rejected():
    composed, members = join_clips([WALK] * 5), members_of(WALK)
    assert composed.motion.num_frames > MAX_FRAMES
    with pytest.raises(CompositionError) as error:
        check_quality(composed, members)
    assert error.value.reason == "too long"


def members_of(*clips: Clip) -> list[Member]:
    return [Member(clip, solve_track(clip), ()) for clip in clips]


CLIPS = [WALK, STAND, WAVE, CROUCH]


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner()


@pytest.fixture(scope="module")
def pool(planner: Planner) -> Pool:
    return Pool(CLIPS, planner)


def test_a_composed_clip_says_what_happens_when_and_where_it_comes_from(pool):
    clip = pool.make(Recipe(("stand", "wave"), (3, 0)))
    assert clip.clip_id == "Jstand+wave@3.0"
    assert clip.source == "other+made"
    assert clip.licence == "CC BY 4.0; CMU; CC0-1.0"
    assert clip.take == "take stand+take wave"
    assert clip.plan is not None
    assert [beat.text for beat in clip.plan.beats] == ["stand still", "wave with the right hand"]
    assert [beat.body_parts for beat in clip.plan.beats] == [(), ("right hand",)]
    assert clip.plan.duration_s == pytest.approx((len(clip.joints_m) - 1) / FRAME_RATE_HZ)
    assert parse_plan(format_plan(clip.plan)) == clip.plan
    assert len(set(clip.captions)) == 3


def test_a_mixed_clip_is_one_beat_that_names_the_part(pool):
    clip = pool.make(Recipe(("walk", "wave"), (5, 1), "right arm"))
    assert clip.clip_id == "Xwalk+wave@5.1"
    assert clip.plan is not None
    (beat,) = clip.plan.beats
    assert beat.text.endswith("while waving with the right hand")
    assert beat.body_parts == ("right hand",)
    assert beat.duration_s == pytest.approx((len(clip.joints_m) - 1) / FRAME_RATE_HZ)


def test_the_composition_of_mirrored_clips_is_the_mirrored_composition_words_too(pool, planner):
    mirrored_pool = Pool([mirror_clip(clip) for clip in CLIPS], planner)
    for ids, part in ((("stand", "wave"), ""), (("walk", "wave"), "right arm")):
        clip = pool.make(Recipe(ids, (4, 2), part))
        other = mirrored_pool.make(Recipe(tuple(f"M{name}" for name in ids), (4, 2), mirror_text(part)))
        np.testing.assert_allclose(other.joints_m, mirror_joints(clip.joints_m), atol=1e-4)
        assert [caption.text for caption in other.captions] == [mirror_text(c.text) for c in clip.captions]
        assert other.plan == _mirrored(clip.plan)
        assert not other.mirrored


def _mirrored(plan: Plan | None) -> Plan | None:
    return plan and parse_plan(mirror_text(format_plan(plan)))


def draws(planner: Planner, seed: int) -> list[Clip]:
    drawn_from, made = Pool(CLIPS, planner), []
    for number in range(24):
        with suppress(CompositionError):
            made.append(drawn_from.make(drawn_from.draw(seed, number)))
    return made


def test_compositions_follow_from_clips_and_seed(planner):
    clips, again = draws(planner, seed=1), draws(planner, seed=1)
    assert [clip.clip_id for clip in clips] == [clip.clip_id for clip in again]
    assert len({clip.clip_id for clip in clips}) == len(clips) > 3
    for clip, twin in zip(clips, again, strict=True):
        assert clip.captions == twin.captions
        assert clip.plan == twin.plan
        np.testing.assert_array_equal(clip.joints_m, twin.joints_m)
        np.testing.assert_allclose(canonical_joints(clip.joints_m), clip.joints_m, atol=1e-4)
    others = draws(planner, seed=2)
    assert [clip.captions for clip in others] != [clip.captions for clip in clips]


def test_a_worker_makes_the_same_from_recipe_alone(pool, planner):
    recipe = Recipe(("stand", "wave"), (3, 0))
    elsewhere = Pool([WAVE, STAND], planner).make(recipe)
    np.testing.assert_array_equal(pool.make(recipe).joints_m, elsewhere.joints_m)
    assert pool.make(recipe).captions == elsewhere.captions


def test_parts_are_of_one_half_of_the_takes(planner):
    clips = [replace(clip, clip_id=f"{clip.clip_id}{n}", take=f"take {n}") for n in range(8) for clip in (STAND, WAVE)]
    halves = {clip.clip_id: take_half(clip.take) for clip in clips}
    assert sorted(Counter(halves.values())) == [0, 1]
    parted = Pool(clips, planner)
    drawn = []
    for number in range(40):
        with suppress(CompositionError):
            drawn.append({halves[clip_id] for clip_id in parted.draw(1, number).clip_ids})
    assert all(len(found) == 1 for found in drawn)
    assert {0} in drawn
    assert {1} in drawn


def test_fewer_than_two_clips_are_refused(planner):
    with pytest.raises(ValueError, match="needs 2 clips with captions that can be joined, got 1"):
        Pool([WALK], planner)
