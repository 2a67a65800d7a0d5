import logging
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from bridge.bvh import write_bvh
from python_core.clips.bvh import BvhFolder, read_bvh
from python_core.clips.clip import Caption, ClipError
from python_core.clips.joint_names import format_mapping, guess_mapping
from python_core.clips.rig import UNITS_M
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints

with warnings.catch_warnings():
    warnings.simplefilter("ignore", PendingDeprecationWarning)  # bvhio imports glm by its old name.
    import bvhio

from tests.python_core.clips.bvh_files import (
    CAPTION,
    CMU,
    CMU_ROWS,
    CMU_UNIT_M,
    MIXAMO,
    ORDERS,
    POSITIONS,
    Joint,
    bvh_text,
    made_folder,
    motion_text,
    random_rows,
    read_one,
)


@pytest.fixture(scope="session")
def motion(smooth_motions: list[Motion]) -> Motion:
    """Two seconds in which every joint moves."""
    whole = smooth_motions[0]
    return Motion(whole.root_positions_m[:40], whole.joint_rotations[:40], whole.contacts[:40], 20.0)


@pytest.mark.parametrize("number", range(3))
def test_a_motion_that_the_bridge_wrote_is_read_back_to_a_tenth_of_a_millimetre(
    tmp_path: Path, smooth_motions: list[Motion], number: int
):
    write_bvh(tmp_path / "a.bvh", smooth_motions[number])
    clip = read_one(tmp_path, (tmp_path / "a.bvh").read_text())
    np.testing.assert_allclose(clip.joints_m, smooth_motions[number].joint_positions_m(), atol=1e-4)
    assert (clip.frame_rate_hz, clip.captions, clip.take) == (20.0, (CAPTION,), "a")


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_rotations_gives_the_same_joints(tmp_path: Path, motion: Motion, order: str):
    clip = read_one(tmp_path, motion_text(motion, order=order))
    np.testing.assert_allclose(clip.joints_m, motion.joint_positions_m(), atol=1e-5)


@pytest.mark.parametrize("unit", UNITS_M)
@pytest.mark.parametrize("up", ["y", "z"])
def test_unit_and_upward_axis_are_found(tmp_path: Path, motion: Motion, unit: str, up: str):
    clip = read_one(tmp_path, motion_text(motion, unit_m=UNITS_M[unit], up=up))
    np.testing.assert_allclose(clip.joints_m, motion.joint_positions_m(), atol=1e-4)


def test_the_pose_in_which_angles_are_0_does_not_matter(tmp_path: Path, motion: Motion):
    # As in LAFAN1, where it lies along X.
    clip = read_one(tmp_path, motion_text(motion, rest=(0.0, 0.0, -(0.5**0.5), 0.5**0.5)))
    np.testing.assert_allclose(clip.joints_m, motion.joint_positions_m(), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_positions_agree_with_bvhio_for_random_skeletons(tmp_path: Path, seed: int):
    random = np.random.default_rng(seed)
    joints = []
    for number in range(12):
        rotations = tuple(f"{axis}rotation" for axis in ORDERS[random.integers(6)])
        positions = tuple(random.permutation(POSITIONS))[: random.integers(4)]
        both = (positions + rotations, rotations + positions, rotations[:2], ())
        channels = both[random.integers(4)] if number else POSITIONS + rotations
        joints.append(Joint(f"joint{number}", int(random.integers(number)) if number else -1, (1, 2, 3), channels))
    path = tmp_path / "a.bvh"
    path.write_text(bvh_text(joints, random_rows(joints, 5, 400.0, seed)))
    bvh = read_bvh(path)
    root = bvhio.readAsHierarchy(str(path))
    order = [index for index, name in enumerate(bvh.names) if not name.endswith(".end")]
    for frame, positions in enumerate(bvh.positions(order)):
        root.loadPose(frame)
        theirs = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in root.layout()}
        np.testing.assert_allclose(positions, [theirs[bvh.names[index]] for index in order], atol=1e-4)


def test_an_end_site_is_a_joint_without_channels(tmp_path: Path):
    joints = [Joint("Hips", -1, (0, 0, 0), (*POSITIONS, "Yrotation"))]
    (tmp_path / "a.bvh").write_text(bvh_text(joints, np.array([[1.0, 2, 3, 90]] * 2)))
    bvh = read_bvh(tmp_path / "a.bvh")
    assert bvh.names == ("Hips", "Hips.end")
    # 0.1 along Z, turned by 90 degrees about Y.
    np.testing.assert_allclose(bvh.positions([1])[0], [[1.1, 2, 3]], atol=1e-12)


def test_a_cmu_skeleton_gets_metres_a_spine_and_collars(tmp_path: Path):
    clip = read_one(tmp_path, bvh_text(CMU, CMU_ROWS, "0.0083333"))
    joints = dict(zip(BODY_22.joint_names, clip.joints_m[0] / CMU_UNIT_M, strict=True))
    assert clip.frame_rate_hz == 120.0
    np.testing.assert_allclose(joints["l_ankle"], [1.5, 17 - 1.8 - 7.2 - 7.4, 0], atol=1e-5)
    np.testing.assert_allclose(joints["neck"], [0, 22.8, 0], atol=1e-5)
    np.testing.assert_allclose(joints["r_wrist"], [-11.8, 22.2, 0], atol=1e-5)
    # Shares of our bones from pelvis to neck, 0.1316, 0.1432, 0.0574 and 0.2194 m, of 5.8 units.
    heights = [joints[name][1] - 17 for name in ("spine1", "spine2", "spine3")]
    np.testing.assert_allclose(heights, [5.8 * 0.2386, 5.8 * 0.4982, 5.8 * 0.6022], atol=1e-3)
    # Our collars are 0.0756 of 0.1976 m out, and 0.033 m below the shoulders where the chest is 0.2171 m high.
    chest = 22.8 - joints["spine3"][1]
    np.testing.assert_allclose(joints["l_collar"], [3.4 * 0.0756 / 0.1976, 22.2 - chest * 0.033 / 0.2171, 0], atol=1e-3)
    assert np.isfinite(canonical_joints(clip.joints_m)).all()


def test_placed_joints_move_with_their_neighbours(tmp_path: Path):
    rows = random_rows(CMU, 6, 15.0, seed=1)
    first = read_one(tmp_path, bvh_text(CMU, rows)).joints_m
    # The root turns by 90 degrees about Y, and goes elsewhere: in the file its rotations are ZYX, so Y counts last of
    # all only where Z is 0.
    rows[:, 3] = rows[:, 5] = 0
    level = read_one(tmp_path, bvh_text(CMU, rows)).joints_m
    rows[:, 4] += 90
    turned = read_one(tmp_path, bvh_text(CMU, rows)).joints_m
    expected = (level - level[:, :1])[..., [2, 1, 0]] * [1, 1, -1]
    np.testing.assert_allclose(turned - turned[:, :1], expected, atol=1e-5)
    bones = np.linalg.norm(first[:, [6, 9]] - first[:, [3, 6]], axis=-1)
    assert np.ptp(bones, axis=0).max() < 0.02


def test_one_spine_joint_is_enough(tmp_path: Path, motion: Motion):
    names = [name.replace("Spine1", "Chest").replace("Spine2", "Chest2") for name in MIXAMO]
    whole = motion.joint_positions_m()
    clip = read_one(tmp_path, motion_text(motion, tuple(names)))
    # The chain is the same one, so the placed joints are on the joints it has.
    np.testing.assert_allclose(clip.joints_m, whole, atol=1e-5)


def test_a_t_pose_before_the_motion_is_left_out(tmp_path: Path, motion: Motion):
    lines = motion_text(motion).replace("Frames: 40", "Frames: 41").splitlines()
    start = lines.index("Frame Time: 0.05000000") + 1
    lines.insert(start, " ".join(["0"] * len(lines[start].split())))
    clip = read_one(tmp_path, "\n".join(lines))
    np.testing.assert_allclose(clip.joints_m, motion.joint_positions_m(), atol=1e-5)


@pytest.mark.parametrize(
    ("frame_time", "rate_hz"),
    [("0.05", 20), ("0.008333", 120), (".0333333", 30), ("0.0333667", 29.97), ("0.0333", 30.03), ("4.1667e-2", 24)],
)
def test_frame_times_with_few_digits_mean_whole_rates(tmp_path: Path, frame_time: str, rate_hz: float):
    clip = read_one(tmp_path, bvh_text(CMU, CMU_ROWS, frame_time))
    assert clip.frame_rate_hz == pytest.approx(rate_hz, abs=1e-3 if rate_hz % 1 else 0)


def test_layout_and_case_of_keywords_do_not_matter(tmp_path: Path):
    text = bvh_text(CMU, CMU_ROWS)
    expected = read_one(tmp_path, text).joints_m
    other = text.replace("\n{", " {").replace("\n", "\r\n\r\n").replace("End Site", "END SITE").replace("\t", "  ")
    other = other.replace("rotation", "ROTATION").replace("HIERARCHY", "\ufeffhierarchy").replace("Frames:", "frames")
    np.testing.assert_array_equal(read_one(tmp_path, other).joints_m, expected)


def test_names_may_hold_spaces(tmp_path: Path, motion: Motion):
    names = tuple(f"Bip01 {name.replace('Left', 'L ').replace('Right', 'R ')}" for name in MIXAMO)
    clip = read_one(tmp_path, motion_text(motion, names))
    np.testing.assert_allclose(clip.joints_m, motion.joint_positions_m(), atol=1e-5)


def test_a_formatted_mapping_gives_the_same_clip(tmp_path: Path):
    text = bvh_text(CMU, random_rows(CMU, 4, 10.0, seed=2))
    guessed = read_one(tmp_path, text)
    names = read_bvh(tmp_path / "a.bvh").names
    mapping = format_mapping(guess_mapping(names), names)
    assert guessed.guessed_mapping == mapping
    given = read_one(tmp_path, text, mapping)
    np.testing.assert_array_equal(given.joints_m, guessed.joints_m)
    assert given.guessed_mapping == ""


def test_a_mapping_sets_unit_and_axis_and_leaves_names_to_be_guessed(tmp_path: Path, motion: Motion):
    text = motion_text(motion, unit_m=0.2)
    with pytest.raises(ClipError, match=r"legs are 4\.105 units long from hip to ankle.*; set scale"):
        read_one(tmp_path, text)
    clip = read_one(tmp_path, text, "scale = 0.2\n")
    np.testing.assert_allclose(clip.joints_m, motion.joint_positions_m(), atol=1e-5)
    turned = read_one(tmp_path, text, 'scale = 0.2\nup = "z"\n')
    np.testing.assert_allclose(turned.joints_m, clip.joints_m[..., [0, 2, 1]] * [1, 1, -1], atol=1e-6)


def lying(motion: Motion, quarter_turns: int) -> Motion:
    """The motion with the body along Z: 1 on the belly, the head towards +Z, -1 on the back, the head towards -Z."""
    rotations = motion.joint_rotations.copy()
    rotations[:, 0] = [quarter_turns * 0.5**0.5, 0, 0, 0.5**0.5]
    return Motion(motion.root_positions_m, rotations, motion.contacts, 20.0)


def test_a_body_that_lies_is_upright_in_its_rest_pose(tmp_path: Path, motion: Motion):
    lies = lying(motion, -1)
    clip = read_one(tmp_path, motion_text(lies, order="YZX"))
    np.testing.assert_allclose(clip.joints_m, lies.joint_positions_m(), atol=1e-5)


def test_a_body_that_lies_along_the_other_upward_axis_needs_the_mapping(tmp_path: Path, motion: Motion):
    lies = lying(motion, 1)
    text = motion_text(lies, order="YZX")
    with pytest.raises(ClipError, match="stands along y in the rest pose and along z in motion; set up"):
        read_one(tmp_path, text)
    clip = read_one(tmp_path, text, 'up = "y"')
    np.testing.assert_allclose(clip.joints_m, lies.joint_positions_m(), atol=1e-5)


def swapped(names: tuple[str, ...], part: str) -> tuple[str, ...]:
    sides = {"Left": "Right", "Right": "Left"}
    return tuple(
        re.sub("Left|Right", lambda side: sides[side[0]], name) if re.search(part, name) else name for name in names
    )


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (".", "toes point backwards"),
        ("Leg|Foot|Toe", "toes point backwards"),
        ("Shoulder|Arm|Hand", "the left arm is on the right"),
        ("LeftLeg|RightLeg", "l_knee = 'LeftLeg' is not below l_hip = 'LeftUpLeg'"),
        ("Foot", "l_ankle = 'LeftFoot' is not below l_knee = 'LeftLeg'"),
    ],
)
def test_left_and_right_must_not_be_exchanged(tmp_path: Path, motion: Motion, part: str, told: str):
    with pytest.raises(ClipError, match=told):
        read_one(tmp_path, motion_text(motion, swapped(MIXAMO, part)))


def test_a_mirror_image_is_refused(tmp_path: Path):
    joints = [Joint(j.name, j.parent, (-j.offset[0], j.offset[1], j.offset[2]), j.channels) for j in CMU]
    with pytest.raises(ClipError, match="mirror image"):
        read_one(tmp_path, bvh_text(joints, CMU_ROWS))


def test_all_files_of_a_folder_without_splits_are_the_train_split(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("b", "walks/slow 01", "a", "M/c"):
        made_folder(tmp_path, bvh_text(CMU, CMU_ROWS), name)
    (tmp_path / "UPPER.BVH").write_text("")
    with caplog.at_level(logging.INFO):
        assert BvhFolder(tmp_path).names("train") == ["M/c", "UPPER", "a", "b", "walks/slow 01"]
    assert "no train.txt or val.txt, so all 5 clips are in train" in caplog.text
    assert [BvhFolder(tmp_path).names(split) for split in ("val", "test")] == [[], []]
    with pytest.raises(ClipError, match=r"dev\.txt: missing; without such files all clips are in train"):
        BvhFolder(tmp_path).names("dev")
    (clip,) = BvhFolder(tmp_path).read("walks/slow 01")
    assert (clip.clip_id, clip.take, clip.source, clip.licence) == ("walks_slow 01", "slow 01", "unknown", "unknown")


def test_split_files_list_names_that_may_hold_spaces(tmp_path: Path):
    (tmp_path / "train.txt").write_text("walks/slow 01\n\nb\n")
    assert BvhFolder(tmp_path).names("train") == ["walks/slow 01", "b"]
    with pytest.raises(ClipError, match=r"val\.txt: missing; the folder has the splits train"):
        BvhFolder(tmp_path).names("val")


def test_two_names_for_one_clip_id_are_refused(tmp_path: Path):
    for name in ("a/b", "a_b"):
        made_folder(tmp_path, "", name)
    with pytest.raises(ClipError, match="a/b and a_b would both be clip a_b"):
        BvhFolder(tmp_path).names("train")


def test_a_folder_without_bvh_files_is_an_error(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ClipError, match=r"no \.bvh file"):
            BvhFolder(folder).names("train")


def test_captions_are_in_texts_or_beside_the_file(tmp_path: Path):
    made_folder(tmp_path, bvh_text(CMU, CMU_ROWS), "w/a")
    reader = BvhFolder(tmp_path)
    assert reader.read("w/a")[0].captions == (CAPTION,)
    (tmp_path / "texts" / "w").mkdir(parents=True)
    (tmp_path / "texts" / "w" / "a.txt").write_text("he runs#he/PRON run/VERB#0.0#0.0\n")
    assert reader.read("w/a")[0].captions == (Caption("he runs", tagged="he/PRON run/VERB"),)
    for path in (tmp_path / "texts" / "w" / "a.txt", tmp_path / "w" / "a.txt"):
        path.unlink()
    with pytest.raises(ClipError) as told:
        reader.read("w/a")
    assert all(str(tmp_path / path) in str(told.value) for path in ("texts/w/a.txt", "w/a.txt"))


def test_licences_are_listed_by_name(tmp_path: Path):
    made_folder(tmp_path, bvh_text(CMU, CMU_ROWS), "w/a")
    (tmp_path / "licences.csv").write_text("id,source,licence\nw/a,cmu,free\n")
    (clip,) = BvhFolder(tmp_path).read("w/a")
    assert (clip.source, clip.licence) == ("cmu", "free")


def test_one_line_gives_source_and_licence_of_all_that_have_no_line_of_their_own(tmp_path: Path):
    for name in ("w/a", "b"):
        made_folder(tmp_path, bvh_text(CMU, CMU_ROWS), name)
    (tmp_path / "licences.csv").write_text("id,source,licence\n*,our studio,CC0-1.0\nb,cmu,free\n")
    clips = [clip for name in ("w/a", "b") for clip in BvhFolder(tmp_path).read(name)]
    assert [(clip.source, clip.licence) for clip in clips] == [("our studio", "CC0-1.0"), ("cmu", "free")]
