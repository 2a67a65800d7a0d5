import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from python_core.clips.asf_amc import read_amc, read_asf
from python_core.clips.clip import Clip, ClipError
from python_core.clips.cmu import CREDIT, LICENCE, CmuArchive, body_joints
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, mirror_joints
from python_core.pose_solver import PoseSolver
from python_core.rotations import quaternion_to_matrix
from python_core.stages import prepare

M = 0.0254 / 0.45
"""Metres of a unit of CMU's files."""

# Bones of the middle and of the left, with parent, direction, length, axis and dof as in CMU's files, in round numbers.
MIDDLE = (
    ("lowerback", "root", (0, 1, -0.07), 2.0, (0, 0, 0), "rx ry rz"),
    ("upperback", "lowerback", (0, 1, -0.03), 2.0, (0, 0, 0), "rx ry rz"),
    ("thorax", "upperback", (0, 1, 0), 2.0, (0, 0, 0), "rx ry rz"),
    ("lowerneck", "thorax", (0, 1, 0.1), 1.6, (0, 0, 0), "rx ry rz"),
    ("upperneck", "lowerneck", (0, 1, -0.06), 1.6, (0, 0, 0), "rx ry rz"),
    ("head", "upperneck", (0, 1, -0.03), 1.6, (0, 0, 0), "rx ry rz"),
)
LEFT = (
    ("hipjoint", "root", (0.65, -0.7, 0.25), 2.5, (0, 0, 0), ""),
    ("femur", "hipjoint", (0.34, -0.94, 0), 7.5, (0, 0, 20), "rx ry rz"),
    ("tibia", "femur", (0.34, -0.94, 0), 7.3, (0, 0, 20), "rx"),
    ("foot", "tibia", (0.09, -0.25, 0.97), 2.2, (-90, 0, 20), "rx rz"),
    ("toes", "foot", (0, 0, 1), 1.1, (-90, 0, 20), "rx"),
    ("clavicle", "thorax", (0.97, 0.24, -0.05), 3.6, (0, 0, 0), "ry rz"),
    ("humerus", "clavicle", (1, 0, 0), 4.9, (180, -30, -90), "rx ry rz"),
    ("radius", "humerus", (1, 0, 0), 3.4, (180, -30, -90), "rx"),
    ("wrist", "radius", (1, 0, 0), 1.7, (0, 90, 90), "ry"),
    ("hand", "wrist", (1, 0, 0), 0.7, (0, 90, 90), "rx rz"),
    ("fingers", "hand", (1, 0, 0), 0.5, (0, 90, 90), "rx"),
    ("thumb", "wrist", (0.7, 0, 0.7), 0.8, (-90, 45, 0), "rx rz"),
)


def cmu_bones() -> list[tuple[str, str, np.ndarray, float, np.ndarray, str]]:
    """All bones; those of the right mirror those of the left."""
    bones = [
        (name, parent, np.array(way), length, np.array(axis), dof) for name, parent, way, length, axis, dof in MIDDLE
    ]
    for side, flip in (("l", 1), ("r", -1)):
        for name, parent, way, length, axis, dof in LEFT:
            above = parent if parent in ("root", "thorax") else side + parent
            bones.append(
                (side + name, above, np.array(way) * [flip, 1, 1], length, np.array(axis) * [1, flip, flip], dof)
            )
    return bones


def asf() -> str:
    blocks, children = [], {}
    for number, (name, parent, way, length, axis, dof) in enumerate(cmu_bones(), start=1):
        unit = way / np.linalg.norm(way)
        limits = "".join(f"{'limits' if not at else '      '} (-180.0 180.0)\n" for at in range(len(dof.split())))
        blocks.append(
            f"  begin\n     id {number}\n     name {name}\n     direction {unit[0]:.9f} {unit[1]:.9f} {unit[2]:.9f}\n"
            f"     length {length}\n     axis {axis[0]} {axis[1]} {axis[2]}  XYZ\n"
            + (f"    dof {dof}\n{limits}" if dof else "")
            + "  end\n"
        )
        children.setdefault(parent, []).append(name)
    hierarchy = "".join(f"    {parent} {' '.join(names)}\n" for parent, names in children.items())
    return (
        "# a skeleton of CMU's form\n:version 1.10\n:name VICON\n:units\n  mass 1.0\n  length 0.45\n  angle deg\n"
        ":documentation\n   made for a test\n:root\n   order TX TY TZ RX RY RZ\n   axis XYZ\n   position 0 0 0  \n"
        f"   orientation 0 0 0 \n:bonedata\n{''.join(blocks)}:hierarchy\n  begin\n{hierarchy}  end\n"
    )


Pose = dict[str, tuple[float, ...]]


def amc(poses: list[Pose]) -> str:
    """A motion; bones that a pose does not name have angles of 0, and the root is 17 units above the floor."""
    lines = ["#!OML:ASF C:\\made.ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame, pose in enumerate(poses, start=1):
        lines += [str(frame), "root " + " ".join(f"{value:.6f}" for value in pose.get("root", (0, 17, 0, 0, 0, 0)))]
        for name, _, _, _, _, dof in cmu_bones():
            if dof:
                values = pose.get(name, (0.0,) * len(dof.split()))
                lines.append(f"{name} " + " ".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + "\n"


def joints_of(folder: Path, poses: list[Pose]) -> np.ndarray:
    (folder / "01.asf").write_text(asf())
    (folder / "01_01.amc").write_text(amc(poses))
    skeleton = read_asf(folder / "01.asf")
    return body_joints(folder / "01.asf", skeleton, read_amc(folder / "01_01.amc", skeleton))


def at(joints_m: np.ndarray, name: str) -> np.ndarray:
    return joints_m[:, BODY_22.joint(name)]


def sliding(num_frames: int) -> list[Pose]:
    """The root is at x = the number of the frame from 0, in units."""
    return [{"root": (frame, 17, 0, 0, 0, 0)} for frame in range(num_frames)]


INDEX = """\
source_path,start_frame,end_frame,new_name
./pose_data/KIT/3/kick_high_left02_poses.npy,0,117,000000.npy
./pose_data/humanact12/humanact12/P11G01R02F1812T1847A0402.npy,0,-1,000001.npy
./pose_data/CMU/01/01_01_poses.npy,2,9,000002.npy
./pose_data/CMU/60/60_03_poses.npy,2,9,000003.npy
./pose_data/CMU/18_19_rory/18_05_poses.npy,0,9,000004.npy
./pose_data/CMU/18_19_Justin/18_05_poses.npy,0,9,000005.npy
./pose_data/CMU/02/02_01_poses.npy,0,9,000006.npy
./pose_data/CMU/01/01_01_poses.npy,4,13,000007.npy
./pose_data/CMU/01/01_01_poses.npy,4,14,000008.npy
./pose_data/CMU/01/walk_poses.npy,0,9,000009.npy
"""


def archive(folder: Path) -> CmuArchive:
    """55 frames of 01_01, 60_03, 18_05 and 19_05, and captions of all clips."""
    for subject, take in (("01", "01_01"), ("60", "60_03"), ("18", "18_05"), ("19", "19_05")):
        place = folder / "subjects" / subject
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{subject}.asf").write_text(asf())
        (place / f"{take}.amc").write_text(amc(sliding(55)))
    texts = folder / "HumanML3D" / "texts"
    texts.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        (texts / f"00000{number}.txt").write_text("a man slides#a/DET man/NOUN#0.0#0.0\nhe slides on#he/PRON#0.1#0.2\n")
    (folder / "HumanML3D" / "train.txt").write_text("000002\nM000002\n000000\n000003\n000001\n000077\n000007\n")
    (folder / "HumanML3D" / "index.csv").write_text(INDEX)
    return CmuArchive(folder / "subjects", folder / "HumanML3D")


def read_one(folder: Path, name: str) -> Clip:
    (clip,) = archive(folder).read(name)
    return clip


def test_the_pose_with_all_angles_0_is_a_t_pose_that_faces_z_with_its_left_at_x(tmp_path: Path):
    joints_m = joints_of(tmp_path, [{}])
    # Down the left leg by hand, in units: hip, knee, ankle and foot, each along its bone, from the root at (0, 17, 0).
    place = np.array([0.0, 17.0, 0.0])
    for name, way, length in (
        ("l_hip", (0.65, -0.7, 0.25), 2.5),
        ("l_knee", (0.34, -0.94, 0), 7.5),
        ("l_ankle", (0.34, -0.94, 0), 7.3),
        ("l_foot", (0.09, -0.25, 0.97), 2.2),
    ):
        place = place + np.array(way) / np.linalg.norm(way) * length
        np.testing.assert_allclose(at(joints_m, name)[0], place * M, atol=1e-6)
    # The arm is level: shoulder, elbow and wrist differ in x only, the lower arm being radius and wrist together.
    shoulder = at(joints_m, "l_shoulder")[0]
    np.testing.assert_allclose(at(joints_m, "l_elbow")[0] - shoulder, [4.9 * M, 0, 0], atol=1e-6)
    np.testing.assert_allclose(at(joints_m, "l_wrist")[0] - shoulder, [(4.9 + 3.4 + 1.7) * M, 0, 0], atol=1e-6)
    np.testing.assert_allclose(joints_m, mirror_joints(joints_m), atol=1e-6)
    heights = [at(joints_m, name)[0, 1] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")]
    assert heights == sorted(heights)
    assert 1.4 < heights[-1] - at(joints_m, "l_foot")[0, 1] < 1.7


def test_the_trunk_in_that_pose_stands_as_our_t_pose_does_but_for_the_pelvis(tmp_path: Path):
    turns = PoseSolver()(torch.from_numpy(joints_of(tmp_path, [{}])).double())[1]
    pelvis = quaternion_to_matrix(turns)[0, 0].numpy()
    # It leans back a little: CMU's walkers hold its root forward, HumanML3D's pelvis leans back as they walk.
    assert -15 < np.degrees(np.arctan2(pelvis[2, 1], pelvis[1, 1])) < -5
    np.testing.assert_allclose(pelvis[:, 0], [1, 0, 0], atol=1e-6)
    chest = pelvis
    for joint in (3, 6, 9):
        chest = chest @ quaternion_to_matrix(turns)[0, joint].numpy()
    np.testing.assert_allclose(chest, np.eye(3), atol=1e-5)


def test_left_stays_left_as_the_left_arm_goes_up(tmp_path: Path):
    joints_m = joints_of(tmp_path, [{}, {"lhumerus": (0, 0, -60)}])
    left, right, head = (at(joints_m, name) for name in ("l_wrist", "r_wrist", "head"))
    assert left[1, 1] > head[1, 1] > left[0, 1]
    # The arm, ten units long, turns by 60 degrees in a plane that its own axes put 30 degrees off the upright.
    rise_m = 10 * M * np.sin(np.radians(60)) * np.cos(np.radians(30))
    np.testing.assert_allclose(left[1, 1] - left[0, 1], rise_m, atol=1e-5)
    assert left[1, 0] > 0.2 > -0.2 > right[1, 0]
    np.testing.assert_allclose(right[1], right[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_mirrored_motion_gives_mirrored_joints(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    poses: list[Pose] = []
    others: list[Pose] = []
    for _ in range(4):
        pose = {name: tuple(rng.uniform(-60, 60, len(dof.split()))) for name, _, _, _, _, dof in cmu_bones() if dof}
        pose["root"] = (*rng.uniform(-5, 5, 3), *rng.uniform(-180, 180, 3))
        other = {}
        for name, values in pose.items():
            order = next((dof for bone, _, _, _, _, dof in cmu_bones() if bone == name), "tx ty tz rx ry rz").split()
            # A mirror keeps turns about x and turns the others round; it keeps shifts but those along x.
            mirrored = tuple(
                value if turn in ("rx", "ty", "tz") else -value for turn, value in zip(order, values, strict=True)
            )
            sided = name[0] in "lr" and name not in ("lowerback", "lowerneck", "root")
            other[f"{'r' if name[0] == 'l' else 'l'}{name[1:]}" if sided else name] = mirrored
        poses.append(pose)
        others.append(other)
    joints_m, mirrored_m = joints_of(tmp_path, poses), joints_of(tmp_path, others)
    np.testing.assert_allclose(mirrored_m, mirror_joints(joints_m), atol=1e-5)


def test_a_nod_moves_the_head_and_not_the_chest(tmp_path: Path):
    joints_m = joints_of(tmp_path, [{}, {"lowerneck": (20, 0, 0), "upperneck": (15, 0, 0), "head": (10, 0, 0)}])
    for name in ("spine3", "neck", "l_collar", "r_collar", "l_shoulder"):
        np.testing.assert_allclose(at(joints_m, name)[1], at(joints_m, name)[0], atol=1e-6)
    bones = at(joints_m, "head") - at(joints_m, "neck")
    pitch = np.degrees(np.arctan2(bones[:, 2], bones[:, 1]))
    assert pitch[1] - pitch[0] == pytest.approx(45, abs=1e-3)


def test_a_bow_of_the_back_tilts_the_chest_by_as_much(tmp_path: Path):
    joints_m = joints_of(tmp_path, [{}, {"lowerback": (20, 0, 0), "upperback": (15, 0, 0), "thorax": (10, 0, 0)}])
    bones = at(joints_m, "neck") - at(joints_m, "spine3")
    pitch = np.degrees(np.arctan2(bones[:, 2], bones[:, 1]))
    assert pitch[1] - pitch[0] == pytest.approx(45, abs=1e-3)


def test_a_clip_is_cut_at_frames_of_20_a_second_of_a_take_at_120(tmp_path: Path):
    clip = read_one(tmp_path, "000002")
    # Frames 2 to 8 of 20 a second are 12, 18, ... 48 of 120 a second.
    np.testing.assert_allclose(at(clip.joints_m, "pelvis")[:, 0], np.arange(12, 54, 6) * M, atol=1e-6)
    assert (clip.clip_id, clip.take, clip.source, clip.licence) == ("000002", "01_01", "cmu", LICENCE)
    assert clip.frame_rate_hz == 20
    assert [caption.text for caption in clip.captions] == ["a man slides", "he slides on"]
    assert "mocap.cs.cmu.edu" in CREDIT


@pytest.mark.parametrize("subject", ["60", "61", "88", "139"])
def test_a_clip_of_a_subject_at_60_takes_every_third_frame(tmp_path: Path, subject: str):
    reader = archive(tmp_path)
    (tmp_path / "subjects" / "60").rename(tmp_path / "subjects" / subject)
    for suffix, name in (("asf", "60"), ("amc", "60_03")):
        path = tmp_path / "subjects" / subject / f"{name}.{suffix}"
        path.rename(path.with_name(f"{name.replace('60', subject)}.{suffix}"))
    (tmp_path / "HumanML3D" / "index.csv").write_text(INDEX.replace("CMU/60/60_03", f"CMU/{subject}/{subject}_03"))
    (clip,) = reader.read("000003")
    assert clip.take == f"{subject}_03"
    np.testing.assert_allclose(at(clip.joints_m, "pelvis")[:, 0], np.arange(6, 27, 3) * M, atol=1e-6)


def test_takes_of_two_people_go_to_the_subject_whose_they_are(tmp_path: Path):
    assert read_one(tmp_path, "000004").take == "19_05"
    assert read_one(tmp_path, "000005").take == "18_05"


def test_a_clip_may_end_a_little_after_its_take_and_is_cut_there(tmp_path: Path):
    # 55 frames at 120 Hz are 10 at 20 Hz: 0, 6, ... 54. The clip would be frames 4 to 12.
    assert len(read_one(tmp_path, "000007").joints_m) == 6
    with pytest.raises(
        ClipError, match=r"01_01\.amc: 10 frames at 20 Hz, expected clip 000008 from frame 4 to 14 in it"
    ):
        read_one(tmp_path, "000008")


MIRRORED = "mirrored copy; prepare --mirror makes those of the train split"
LEFT_OUT = [
    ("M000002", MIRRORED),
    ("000000", "of another data set: KIT"),
    ("000001", "of another data set: humanact12"),
    ("000077", "not in index.csv"),
]


def test_names_are_those_of_a_split_that_are_cmu_and_not_mirrored_and_the_rest_is_left_out_with_reasons(tmp_path: Path):
    reader = archive(tmp_path)
    assert reader.names("train") == ["000002", "000003", "000007"]
    assert reader.left_out("train") == LEFT_OUT
    # A mirrored copy of another data set's clip is no more ours than the clip.
    (tmp_path / "HumanML3D" / "val.txt").write_text("M000000\nM000077\n")
    assert [reason for _, reason in reader.left_out("val")] == ["of another data set: KIT", "not in index.csv"]
    for listed in (reader.names, reader.left_out):
        with pytest.raises(ClipError, match=r"test\.txt: missing"):
            listed("test")


def test_prepare_reports_what_was_left_out_apart_from_what_was_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    archive(tmp_path / "cmu")
    out = tmp_path / "out"
    for path in (tmp_path / "cmu" / "HumanML3D" / "texts").iterdir():
        path.write_text("a man slides#a/DET man/NOUN#0.0#0.0\n")
    with (tmp_path / "cmu" / "HumanML3D" / "train.txt").open("a") as file:
        # In index.csv, but its take is not there; and many that are of no use.
        file.write("000006\n" + "".join(f"{number:06}\n" for number in range(100_000, 103_000)))
    config = replace(
        prepare.PRESETS["tiny"], clips=(tmp_path / "cmu",), out=out, splits=("train",), min_frames=5, mirror=False
    )
    with caplog.at_level(logging.INFO):
        prepare.run(config)
    lines = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    reasons = {line["name"]: line["reason"] for line in lines}
    assert len(reasons) == 4 + 1 + 3_000
    assert reasons.items() >= dict(LEFT_OUT).items()
    assert "02/02.asf: missing" in reasons["000006"]
    report = json.loads((out / "report.json").read_text())
    assert report["left_out"] == {
        "not in index.csv": 3_001,
        MIRRORED: 1,
        "of another data set: KIT": 1,
        "of another data set: humanact12": 1,
    }
    # Only what should have been read counts as skipped, and makes the first line a warning.
    assert list(report["skipped"].values()) == [1]
    assert report["headline"].endswith("; 1 skipped")
    assert "MORE THAN HALF" not in report["headline"]
    assert re.search(r"left out: not in index.csv *│ *3001 *│", caplog.text)
    assert len(caplog.text.splitlines()) < 60


def test_the_index_is_found_beside_the_folder_of_the_texts_as_in_the_repository(tmp_path: Path):
    reader = archive(tmp_path)
    (tmp_path / "HumanML3D" / "index.csv").rename(tmp_path / "index.csv")
    assert reader.names("train") == ["000002", "000003", "000007"]
    assert len(reader.read("000002")[0].joints_m) == 7
    (tmp_path / "index.csv").unlink()
    with pytest.raises(ClipError, match=r"HumanML3D: no index\.csv in it or beside it"):
        reader.names("train")


def test_what_is_missing_is_named(tmp_path: Path):
    reader = archive(tmp_path)
    with pytest.raises(ClipError, match=r"02/02\.asf: missing"):
        reader.read("000006")
    with pytest.raises(ClipError, match=r"clip 000009: index.csv says '\./pose_data/CMU/01/walk_poses\.npy'"):
        reader.read("000009")
    with pytest.raises(ClipError, match=r"clip 000077: not in .*index\.csv"):
        reader.read("000077")
    (tmp_path / "subjects" / "60" / "60_03.amc").unlink()
    with pytest.raises(ClipError, match=r"60/60_03\.amc: missing"):
        reader.read("000003")
    (tmp_path / "HumanML3D" / "texts").rename(tmp_path / "elsewhere")
    with pytest.raises(ClipError, match=r"texts/000002\.txt: missing"):
        reader.read("000002")
    (tmp_path / "HumanML3D" / "texts.zip").touch()
    with pytest.raises(ClipError, match=r"texts: missing; unpack texts\.zip"):
        reader.read("000002")
    with pytest.raises(ClipError, match="subject: missing; unpack CMU's archive"):
        CmuArchive(tmp_path / "subject", tmp_path / "HumanML3D").names("train")


def test_a_skeleton_that_is_not_cmus_is_refused_with_what_it_lacks(tmp_path: Path):
    reader = archive(tmp_path)
    for name in ("01.asf", "01_01.amc"):
        path = tmp_path / "subjects" / "01" / name
        path.write_text(path.read_text().replace("lowerback", "spine").replace("lfoot", "left_foot"))
    with pytest.raises(ClipError, match=r"01\.asf: not CMU's skeleton, it has no lfoot, lowerback"):
        reader.read("000002")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("new_name\n", "name\n", r"index\.csv:1: expected source_path,start_frame,end_frame,new_name"),
        (",2,9,000002", ",2,000002", r"index\.csv:4: expected source_path"),
        (",2,9,000002", ",2,nine,000002", r"index\.csv:4: expected two whole frames, got '2', 'nine'"),
        (",2,9,000002", ",2,9_0,000002", r"index\.csv:4: expected two whole frames"),
        ("000002.npy", "../2.npy", r"index\.csv:4: expected a name such as 000004\.npy"),
        ("000003.npy", "000002.npy", r"index\.csv:5: clip 000002 for the second time"),
    ],
)
def test_an_index_of_another_form_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str):
    reader = archive(tmp_path)
    assert old in INDEX
    (tmp_path / "HumanML3D" / "index.csv").write_text(INDEX.replace(old, new, 1))
    with pytest.raises(ClipError, match=message):
        reader.names("train")


def test_a_clip_whose_end_is_not_after_its_start_is_refused(tmp_path: Path):
    reader = archive(tmp_path)
    (tmp_path / "HumanML3D" / "index.csv").write_text(INDEX.replace(",2,9,000002", ",9,-1,000002"))
    with pytest.raises(ClipError, match="expected clip 000002 from frame 9 to -1"):
        reader.read("000002")


def test_a_read_clip_goes_onto_our_skeleton(tmp_path: Path):
    joints_m = canonical_joints(read_one(tmp_path, "000002").joints_m)
    assert np.isfinite(joints_m).all()
    # Six units to the left from frame to frame, whatever the size of the body.
    np.testing.assert_allclose(np.diff(joints_m[:, 0, 0]), 6 * M, atol=1e-5)
