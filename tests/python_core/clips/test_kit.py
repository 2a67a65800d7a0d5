from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.clips.clip import Clip, ClipError
from python_core.clips.kit import KIT_21, LICENCE, KitFolder, to_body_22
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, feature_slices, mirror_joints, num_features

UNITS = 1 / 0.0023
"""Units a metre of the made clips: some number that is no power of ten."""
LINE = "a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n"


def t_pose(num_frames: int = 20) -> NDArray[np.float64]:
    """Joints of the KIT skeleton in our space, facing +Z, in metres, [F, 21, 3]."""
    return np.tile(KIT_21.rest_joints_m.astype(np.float64), (num_frames, 1, 1))


def made_folder(
    folder: Path, joints_m: NDArray | None = None, rows: NDArray | None = None, clip_id: str = "00001"
) -> Path:
    for name in ("new_joints", "new_joint_vecs", "texts"):
        (folder / name).mkdir(exist_ok=True)
    if joints_m is not None:
        np.save(folder / "new_joints" / f"{clip_id}.npy", joints_m * UNITS)
    if rows is not None:
        np.save(folder / "new_joint_vecs" / f"{clip_id}.npy", rows)
    (folder / "texts" / f"{clip_id}.txt").write_text(LINE)
    (folder / "train.txt").write_text(clip_id)
    return folder


def read_one(folder: Path) -> Clip:
    reader = KitFolder(folder)
    (clip,) = reader.read(reader.names("train")[0])
    return clip


def rows_of(joints_m: NDArray, yaw: NDArray) -> NDArray[np.float32]:
    """Features of joints that face +Z in every frame, then turned by an angle about +Y and moved along that heading by
    1 cm a frame; contacts and rotations are not read and stay zero.
    """
    slices = feature_slices(KIT_21)
    rows = np.zeros((len(joints_m) - 1, num_features(KIT_21)), dtype=np.float32)
    rows[:, slices["root_yaw_velocity"]] = (-np.diff(yaw) / 2)[:, None]
    rows[:, slices["root_velocity"]] = np.array([0.0, 0.01]) * UNITS
    rows[:, slices["root_height"]] = joints_m[:-1, 0, 1:2] * UNITS
    rows[:, slices["joint_positions"]] = (joints_m[:-1, 1:] * UNITS).reshape(len(rows), -1)
    return rows


def test_the_width_of_a_row_follows_from_the_skeleton():
    slices = feature_slices(KIT_21)
    assert num_features(KIT_21) == 251
    assert [(part.start, part.stop) for part in slices.values()] == [
        (0, 1), (1, 3), (3, 4), (4, 64), (64, 184), (184, 247), (247, 251),
    ]  # fmt: skip
    chains = ((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10))
    for chain in chains:
        assert [KIT_21.parents[joint] for joint in chain[1:]] == list(chain[:-1])


def test_the_skeleton_is_its_own_mirror_image_with_its_left_on_plus_x():
    rest_m = KIT_21.rest_joints_m
    np.testing.assert_allclose(mirror_joints(rest_m, KIT_21), rest_m, atol=1e-7)
    for joint, name in enumerate(KIT_21.joint_names):
        side = name.split("_")[0]
        assert np.sign(rest_m[joint, 0]) == {"l": 1, "r": -1}.get(side, 0)


def test_a_t_pose_becomes_our_t_pose():
    # But for spine2, which lies 3 cm beside the line from waist to chest.
    others = [joint for joint in range(22) if joint != BODY_22.joint("spine2")]
    found = to_body_22(t_pose() * UNITS)[0]
    np.testing.assert_allclose(found[others], BODY_22.rest_joints_m[others], atol=1e-6)
    np.testing.assert_allclose(found, BODY_22.rest_joints_m, atol=0.03)


def test_the_unit_does_not_count():
    joints_m = t_pose() + np.random.default_rng(1).normal(scale=0.02, size=(20, 21, 3))
    for units in (1, 1000, 640):
        np.testing.assert_allclose(to_body_22(joints_m * units), to_body_22(joints_m), atol=1e-5)


def test_right_stays_right(tmp_path: Path):
    joints_m = t_pose()
    # Joints 5 to 7 are the right arm, 11 to 15 the right leg: it lifts its hand and its foot.
    joints_m[:, 7, 1] += 0.5
    joints_m[:, 13:16, 1] += 0.2
    place = dict(zip(BODY_22.joint_names, read_one(made_folder(tmp_path, joints_m)).joints_m[0], strict=True))
    assert place["r_wrist"][1] > place["l_wrist"][1] + 0.4
    assert place["r_foot"][1] > place["l_foot"][1] + 0.1
    # Seen by a person who looks along the toes with the head up, the right side is on the right.
    right = np.cross(place["l_foot"] - place["l_ankle"], [0, 1, 0])
    for name in ("hip", "knee", "shoulder", "elbow", "wrist"):
        assert right @ (place[f"r_{name}"] - place[f"l_{name}"]) > 0


def test_a_clip_of_the_other_handedness_is_refused(tmp_path: Path):
    joints_m = t_pose() * [-1, 1, 1]
    with pytest.raises(ClipError, match="clip 00001: toes that point behind the hips"):
        read_one(made_folder(tmp_path, joints_m))


def test_features_and_joints_give_the_same_motion_turns_included(tmp_path: Path):
    joints_m = t_pose(60) + np.random.default_rng(2).normal(scale=0.01, size=(60, 21, 3))
    joints_m[:, 0] = [0, KIT_21.rest_root_height_m, 0]
    yaw = 0.03 * np.arange(60)
    steps_m = 0.01 * np.stack([np.sin(yaw[1:]), np.zeros(59), np.cos(yaw[1:])], axis=-1)
    way_m = np.concatenate([np.zeros((1, 3)), steps_m.cumsum(axis=0)])
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, z = joints_m[..., 0], joints_m[..., 2]
    world_m = np.stack([cos * x + sin * z, joints_m[..., 1], cos * z - sin * x], axis=-1) + way_m[:, None]
    (tmp_path / "joints").mkdir()
    (tmp_path / "rows").mkdir()
    by_joints = read_one(made_folder(tmp_path / "joints", world_m)).joints_m
    by_rows = read_one(made_folder(tmp_path / "rows", rows=rows_of(joints_m, yaw))).joints_m
    assert len(by_rows) == len(by_joints) - 1
    # The legs that set the scale are measured on one frame fewer.
    np.testing.assert_allclose(by_rows, by_joints[:-1], atol=5e-3)
    # It turns to its left, from +Z towards +X, and walks there.
    assert by_rows[-1, 0, 0] > 0.1


def test_a_line_for_all_clips_gives_their_source_and_licence(tmp_path: Path):
    made_folder(tmp_path, t_pose())
    (tmp_path / "licences.csv").write_text("id,source,licence\n*,made,CC0-1.0\n")
    clip = read_one(tmp_path)
    assert (clip.source, clip.licence) == ("made", "CC0-1.0")


def test_a_clip_says_its_rate_source_and_licence_and_goes_onto_our_skeleton(tmp_path: Path):
    clip = read_one(made_folder(tmp_path, t_pose()))
    assert (clip.clip_id, clip.frame_rate_hz, clip.source, clip.licence) == ("00001", 12.5, "kit", LICENCE)
    assert [caption.text for caption in clip.captions] == ["a person walks"]
    np.testing.assert_allclose(canonical_joints(clip.joints_m)[0], BODY_22.rest_joints_m, atol=0.03)
    (tmp_path / "licences.csv").write_text("id,source,licence\n00001,made,CC0-1.0\n")
    other = made_folder(tmp_path, t_pose(), clip_id="00001")
    # Licences are read once for a folder.
    assert KitFolder(other).read("00001")[0].licence == LICENCE


BAD_JOINTS = {
    "22 joints": (np.zeros((10, 22, 3)), r"00001\.npy: expected \[2 or more, 21, 3\], got \[10, 22, 3\]"),
    "one frame": (np.zeros((1, 21, 3)), r"expected \[2 or more, 21, 3\], got \[1, 21, 3\]"),
    "no legs": (np.zeros((10, 21, 3)), "clip 00001: legs 0 units long"),
    "nan": (np.full((10, 21, 3), np.nan), "clip 00001: joints that are not finite"),
    "more than float32 holds": (np.full((10, 21, 3), 1e300), "clip 00001: joints that are not finite"),
    "far": (KIT_21.rest_joints_m + np.array([1e7, 0, 0]), "expected"),
}


@pytest.mark.parametrize("name", BAD_JOINTS)
def test_joints_that_do_not_fit_are_refused_with_their_file_or_clip(tmp_path: Path, name: str):
    joints_m, message = BAD_JOINTS[name]
    with pytest.raises(ClipError, match=message):
        read_one(made_folder(tmp_path, joints_m))


def test_features_of_another_width_and_missing_files_are_refused(tmp_path: Path):
    with pytest.raises(ClipError, match=r"new_joint_vecs/00001\.npy: expected \[2 or more, 251\], got \[10, 263\]"):
        read_one(made_folder(tmp_path, rows=np.zeros((10, 263))))
    with pytest.raises(ClipError, match=r"neither new_joints/00002\.npy nor new_joint_vecs/00002\.npy"):
        KitFolder(tmp_path).read("00002")
