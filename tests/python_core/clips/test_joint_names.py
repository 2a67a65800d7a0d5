import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_core.clips.clip import ClipError
from python_core.clips.joint_names import PLACED, Mapping, check_names, format_mapping, guess_mapping, read_mapping
from python_core.contract.skeleton import BODY_22

MIXAMO = (
    "Hips LeftUpLeg RightUpLeg Spine LeftLeg RightLeg Spine1 LeftFoot RightFoot Spine2 LeftToeBase RightToeBase Neck "
    "LeftShoulder RightShoulder Head LeftArm RightArm LeftForeArm RightForeArm LeftHand RightHand"
)
SMPL = (
    "Pelvis L_Hip R_Hip Spine1 L_Knee R_Knee Spine2 L_Ankle R_Ankle Spine3 L_Foot R_Foot Neck L_Collar R_Collar Head "
    "L_Shoulder R_Shoulder L_Elbow R_Elbow L_Wrist R_Wrist"
)
UNREAL = (
    "pelvis thigh_l thigh_r spine_01 calf_l calf_r spine_02 foot_l foot_r spine_03 ball_l ball_r neck_01 clavicle_l "
    "clavicle_r head upperarm_l upperarm_r lowerarm_l lowerarm_r hand_l hand_r"
)
BIPED = (
    "Bip01~Pelvis Bip01~L~Thigh Bip01~R~Thigh Bip01~Spine Bip01~L~Calf Bip01~R~Calf Bip01~Spine1 Bip01~L~Foot "
    "Bip01~R~Foot Bip01~Spine2 Bip01~L~Toe0 Bip01~R~Toe0 Bip01~Neck Bip01~L~Clavicle Bip01~R~Clavicle Bip01~Head "
    "Bip01~L~UpperArm Bip01~R~UpperArm Bip01~L~Forearm Bip01~R~Forearm Bip01~L~Hand Bip01~R~Hand"
)
XSENS = (
    "Hips LeftHip RightHip - LeftKnee RightKnee - LeftAnkle RightAnkle - LeftToe RightToe Neck LeftCollar RightCollar "
    "Head LeftShoulder RightShoulder LeftElbow RightElbow LeftWrist RightWrist"
)
BANDAI = (
    "Hips UpperLeg_L UpperLeg_R - LowerLeg_L LowerLeg_R - Foot_L Foot_R - Toes_L Toes_R Neck Shoulder_L Shoulder_R "
    "Head UpperArm_L UpperArm_R LowerArm_L LowerArm_R Hand_L Hand_R"
)
DAZ = (
    "hip lThigh rThigh - lShin rShin - lFoot rFoot - lToe rToe neck lCollar rCollar head lShldr rShldr lForeArm "
    "rForeArm lHand rHand"
)
HDM05 = (
    "root lfemur rfemur - ltibia rtibia - lfoot rfoot - ltoes rtoes upperneck lclavicle rclavicle head lhumerus "
    "rhumerus lradius rradius lwrist rwrist"
)
CMU = (
    "Hips LeftUpLeg RightUpLeg - LeftLeg RightLeg - LeftFoot RightFoot - LeftToeBase RightToeBase Neck1 LeftShoulder "
    "RightShoulder Head LeftArm RightArm LeftForeArm RightForeArm LeftHand RightHand"
)
BIOVISION = (
    "Hips LeftUpLeg RightUpLeg - LeftLowLeg RightLowLeg - LeftFoot RightFoot - LeftFoot.end RightFoot.end Neck "
    "LeftCollar RightCollar Head LeftUpArm RightUpArm LeftLowArm RightLowArm LeftHand RightHand"
)
BLENDER = (
    "hips thigh.L thigh.R - shin.L shin.R - foot.L foot.R - toe.L toe.R neck shoulder.L shoulder.R head upper_arm.L "
    "upper_arm.R forearm.L forearm.R hand.L hand.R"
)
# Names in the order of our joints; `-` for one that a rig lacks or whose name tells too little.
RIGS = {
    "ours": BODY_22.joint_names,
    "mixamo": tuple(f"mixamorig:{name}" for name in MIXAMO.split()),
    "mixamo without colons": tuple(f"mixamorig{name}" for name in MIXAMO.split()),
    "namespaces": tuple(f"Actor_1:Take:{name}" for name in MIXAMO.split()),
    "lafan1": tuple(MIXAMO.replace("ToeBase", "Toe").split()),
    "rokoko": tuple(re.sub("(Left|Right)Leg", r"\1Shin", MIXAMO.replace("UpLeg", "Thigh")).split()),
    "smpl": tuple(SMPL.split()),
    "smpl of maya": tuple(f"m_avg_{name}" for name in SMPL.split()),
    "unreal": tuple(UNREAL.split()),
    "biped": tuple(name.replace("~", " ") for name in BIPED.split()),
    "xsens": tuple(XSENS.split()),
    "bandai": tuple(BANDAI.split()),
    "daz": tuple(DAZ.split()),
    "hdm05": tuple(HDM05.split()),
    "cmu": tuple(CMU.split()),
    "biovision": tuple(BIOVISION.split()),
    "blender": tuple(BLENDER.split()),
}
# What these rigs have besides, some of it before the joints that are meant.
OTHERS = {
    "lafan1": ("LeftToe.end", "Head.end"),
    "smpl": ("L_Hand", "R_Hand"),
    "unreal": ("root", "upperarm_twist_01_l", "ik_foot_root", "ik_foot_l", "thumb_01_l", "lowerarm_twist_01_r"),
    "biped": ("Bip01", "Bip01 L Finger0", "Bip01 L Toe0Nub", "Bip01 HeadNub"),
    "xsens": ("Chest", "Chest2", "Chest3", "Chest4", "LeftToe.end"),
    "bandai": ("joint_Root", "Spine", "Chest"),
    "daz": ("pelvis", "abdomen", "chest", "lButtock", "leftEye", "lThumb1"),
    "hdm05": ("lhipjoint", "rhipjoint", "lowerback", "upperback", "thorax", "lowerneck", "lhand", "rhand", "lthumb"),
    "cmu": ("LHipJoint", "RHipJoint", "LowerBack", "Spine", "Spine1", "Neck", "LeftFingerBase", "LThumb", "RThumb"),
    "biovision": ("Chest", "Head.end", "LeftHand.end"),
    "blender": ("spine", "spine.001", "spine.002", "heel.02.L"),
}


@pytest.mark.parametrize("rig", RIGS)
def test_joints_of_common_rigs_are_found_by_their_names(rig: str):
    theirs = dict(zip(BODY_22.joint_names, RIGS[rig], strict=True))
    expected = {ours: name for ours, name in theirs.items() if name != "-"}
    assert guess_mapping([*OTHERS.get(rig, ()), *RIGS[rig]]).joints == expected


def test_hands_heads_and_toes_may_be_end_sites():
    names = [name for name in MIXAMO.split() if name not in ("Head", "LeftHand", "RightHand", "LeftToeBase")]
    joints = guess_mapping([*names, "Neck.end", "LeftForeArm.end", "RightForeArm.end", "LeftFoot.end"]).joints
    assert (joints["head"], joints["l_wrist"], joints["l_foot"]) == ("Neck.end", "LeftForeArm.end", "LeftFoot.end")
    assert joints["r_foot"] == "RightToeBase"


def test_a_skeleton_that_is_not_known_gets_one_error_with_all_that_is_missing_and_all_that_is_unused():
    names = [name.replace("LeftLeg", "Knie links").replace("RightHand", "Hand rechts") for name in MIXAMO.split()]
    with pytest.raises(ClipError) as told:
        guess_mapping([*names, "Tail"])
    assert str(told.value).startswith("no joint for l_knee, r_wrist; unused joints of the file: ")
    assert all(name in str(told.value) for name in ("'Knie links'", "'Hand rechts'", "'Tail'", "a mapping file"))


def test_a_mapping_with_wrong_names_gets_one_error_with_all_of_them():
    joints: dict[str, str] = dict(zip(BODY_22.joint_names, MIXAMO.split(), strict=True))
    joints |= {"pelvis": "hips", "l_foot": "LeftFoot.end"}
    del joints["head"]
    with pytest.raises(
        ClipError, match=r"no joint for head; not in the file: pelvis = 'hips', l_foot = 'LeftFoot.end'"
    ):
        check_names(Mapping(joints), MIXAMO.split())


def test_a_name_that_a_file_has_twice_cannot_be_mapped():
    joints: dict[str, str] = dict(zip(BODY_22.joint_names, MIXAMO.split(), strict=True))
    with pytest.raises(ClipError, match=r"more than once in the file: 'Head'"):
        check_names(Mapping(joints), [*MIXAMO.split(), "Head"])


def test_only_spine_and_collars_may_be_left_out():
    joints = dict(zip(BODY_22.joint_names, MIXAMO.split(), strict=True))
    check_names(Mapping({ours: name for ours, name in joints.items() if ours not in PLACED}), MIXAMO.split())
    assert set(PLACED) == {"spine1", "spine2", "spine3", "l_collar", "r_collar"}


@pytest.mark.parametrize(
    "mapping",
    [
        Mapping(dict(zip(BODY_22.joint_names, RIGS["biped"], strict=True)), scale=0.0254, up="z"),
        guess_mapping([*OTHERS["cmu"], *RIGS["cmu"]]),
        Mapping({"pelvis": 'a "quoted" \\ name', "head": "頭", "neck": "a\x7f\x01\tb"}),
        Mapping({}, scale=1.0),
    ],
)
def test_a_mapping_is_read_as_it_was_formatted(tmp_path: Path, mapping: Mapping):
    path = tmp_path / "mapping.toml"
    path.write_text(format_mapping(mapping), encoding="utf-8")
    assert read_mapping(path) == mapping


def test_the_text_of_a_mapping_shows_which_joints_are_placed():
    text = format_mapping(guess_mapping([*OTHERS["xsens"], *RIGS["xsens"]]))
    assert 'pelvis = "Hips"\nl_hip = "LeftHip"\n' in text
    assert '# spine2 = ""  (without it, placed between its neighbours)' in text


def test_the_text_of_a_mapping_lists_the_joints_that_are_not_used_in_any_order_of_the_file(tmp_path: Path):
    names = [*OTHERS["lafan1"], "Tail", 'a "joint"', "Beard", *RIGS["lafan1"]]
    mapping = guess_mapping(names)
    text = format_mapping(mapping, names)
    assert text == format_mapping(mapping, names[::-1])
    assert text.endswith("\n# Unused joints of the file: 'Beard', 'Tail', 'a \"joint\"'\n")
    (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
    assert read_mapping(tmp_path / "mapping.toml") == mapping


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pelvis = Hips", "not TOML"),
        ("a = " + "[" * 100_000, "not TOML"),
        ('joints = "Hips"', r"expected a table \[joints\]"),
        ("[joints]\npelvis = 3", r"expected a table \[joints\]"),
        ('[joints]\nhips = "Hips"', r"no joints of ours: 'hips'; ours are pelvis, l_hip"),
        ('[joints]\nhead = "Hips"\npelvis = "Hips"', "given for more than one of our joints: 'Hips'"),
        ("scale = 0", "scale must be the metres"),
        ("scale = nan", "scale must be the metres"),
        ("scale = true", "scale must be a number"),
        ("scale = 1" + "0" * 400, "mapping.toml: "),
        ('up = "x"', "up must be one of y, z, got 'x'"),
        ("up = 2", "up must be one of y, z, got 2"),
        ('unit = "cm"', "unknown fields 'unit'"),
    ],
)
def test_a_damaged_mapping_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, told: str):
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(ClipError, match=told) as error:
        read_mapping(path)
    assert str(path) in str(error.value)


def test_a_missing_mapping_file_is_named(tmp_path: Path):
    with pytest.raises(ClipError, match=r"nowhere\.toml: cannot be read"):
        read_mapping(tmp_path / "nowhere.toml")


WORDS = st.sampled_from(["Left", "r_", "L", "Spine", "1", ":", ".end", " ", "Leg", "Hips", "foot", "|", "mixamorig"])
NAMES = st.one_of(
    st.text(max_size=8), st.lists(WORDS, max_size=4).map("".join), st.sampled_from([*MIXAMO.split(), *SMPL.split()])
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(names=st.lists(NAMES, max_size=60))
def test_any_names_give_a_mapping_or_an_error(names: list[str]):
    try:
        joints = guess_mapping(names).joints
    except ClipError:
        return
    assert set(joints.values()) <= set(names)
