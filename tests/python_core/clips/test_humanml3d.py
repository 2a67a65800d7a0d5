import csv
from pathlib import Path

import numpy as np
import pytest

from python_core.clips.clip import Caption, Clip, ClipError, mirror_clip, mirror_text, split_captions
from python_core.clips.humanml3d import HumanML3DFolder, read_captions
from python_core.clips.licences import is_permissive
from python_core.contract.skeleton import BODY_22
from python_core.features import canonical_joints, published_features

LINE = "a man walks#a/DET man/NOUN walk/VERB#0.0#0.0\n"


def made_folder(folder: Path, joints_m: np.ndarray | None = None, text: str = LINE, clip_id: str = "000007") -> Path:
    """A folder with one clip: a T-pose that moves by 1 cm a frame along X."""
    if joints_m is None:
        joints_m = np.tile(BODY_22.rest_joints_m, (40, 1, 1))
        joints_m[..., 0] += 0.01 * np.arange(40, dtype=np.float32)[:, None]
    for name in ("new_joints", "texts"):
        (folder / name).mkdir(exist_ok=True)
    np.save(folder / "new_joints" / f"{clip_id}.npy", joints_m)
    (folder / "texts" / f"{clip_id}.txt").write_text(text, encoding="utf-8")
    return folder


def read_one(folder: Path, clip_id: str = "000007") -> Clip:
    return HumanML3DFolder(folder).read(clip_id)[0]


def test_joints_are_read_as_they_are_with_captions_and_licence(clips_folder: Path):
    reader = HumanML3DFolder(clips_folder)
    clip_ids = reader.names("train")
    assert clip_ids == ["000000t", "000011t", "000022t", "000033t"]
    clips = [clip for clip_id in clip_ids for clip in reader.read(clip_id)]
    assert [clip.clip_id for clip in clips] == clip_ids
    np.testing.assert_array_equal(clips[1].joints_m, np.load(clips_folder / "new_joints" / "000011t.npy"))
    assert [caption.text for caption in clips[0].captions] == [
        "a person walks forward.",
        "someone walks straight ahead.",
    ]
    assert {(clip.source, clip.licence, clip.frame_rate_hz, clip.mirrored) for clip in clips} == {
        ("made", "CC0-1.0", 20.0, False)
    }


@pytest.mark.parametrize("clip_id", ["000000t", "000022t", "000033v"])
def test_both_layouts_read_the_same_motion(clips_folder: Path, tmp_path: Path, clip_id: str):
    joints_m = canonical_joints(read_one(clips_folder, clip_id).joints_m)
    made_folder(tmp_path, joints_m, clip_id="J")
    (tmp_path / "new_joint_vecs").mkdir()
    np.save(tmp_path / "new_joint_vecs" / "V.npy", published_features(joints_m))
    (tmp_path / "texts" / "V.txt").write_text(LINE)
    by_joints, by_features = read_one(tmp_path, "J"), read_one(tmp_path, "V")
    assert len(by_features.joints_m) == len(by_joints.joints_m) - 1
    np.testing.assert_allclose(by_features.joints_m, by_joints.joints_m[:-1], atol=1e-5)


def test_a_folder_without_licences_says_unknown(tmp_path: Path):
    clip = read_one(made_folder(tmp_path))
    assert (clip.source, clip.licence) == ("unknown", "unknown")


INDEX = """source_path,start_frame,end_frame,new_name
./pose_data/KIT/3/walking_poses.npy,0,117,000007.npy
./pose_data/humanact12/humanact12/P11G01R02F1812T1847A0402.npy,0,-1,000008.npy
./pose_data/our_studio/walk.npy,0,117,000009.npy
"""


@pytest.mark.parametrize("place", ["", ".."])
def test_without_licences_a_clip_has_the_terms_of_the_data_set_that_index_names(tmp_path: Path, place: str):
    folder = tmp_path / "HumanML3D"
    folder.mkdir()
    for clip_id in ("000007", "M000007", "000008", "000009", "000010"):
        made_folder(folder, clip_id=clip_id)
    (folder / place / "index.csv").write_text(INDEX)
    found = {
        clip_id: (clip.source, clip.licence)
        for clip_id in ("000007", "M000007", "000008", "000009", "000010")
        for clip in HumanML3DFolder(folder).read(clip_id)
    }
    assert found == {
        "000007": ("KIT", "AMASS: non-commercial research, no redistribution"),
        "M000007": ("KIT", "AMASS: non-commercial research, no redistribution"),
        "000008": ("HumanAct12", "HumanAct12: research only"),
        # No data set that HumanML3D is made of, and no line at all: nothing is known, so nothing is made up.
        "000009": ("unknown", "unknown"),
        "000010": ("unknown", "unknown"),
    }
    assert not any(is_permissive(licence) for _, licence in found.values())


def test_what_licences_says_counts_more_than_index_and_one_line_may_be_for_all_others(tmp_path: Path):
    made_folder(tmp_path)
    made_folder(tmp_path, clip_id="000008")
    (tmp_path / "index.csv").write_text(INDEX)
    (tmp_path / "licences.csv").write_text("id,source,licence\n000008,made,CC0-1.0\n")
    assert [read_one(tmp_path, clip_id).source for clip_id in ("000007", "000008")] == ["KIT", "made"]
    other = tmp_path / "other"
    other.mkdir()
    for clip_id in ("000007", "M000007", "000008"):
        made_folder(other, clip_id=clip_id)
    (other / "licences.csv").write_text("id,source,licence\n*,our studio,CC BY 4.0\n000008,made,CC0-1.0\n")
    clips = [read_one(other, clip_id) for clip_id in ("000007", "M000007", "000008")]
    assert [(clip.source, clip.licence) for clip in clips] == [
        ("our studio", "CC BY 4.0"), ("our studio", "CC BY 4.0"), ("made", "CC0-1.0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("split", "ids", "source"),
    [
        ("val", [f"{number:06}" for number in range(730)] + [f"M{number:06}" for number in range(730)], "HumanML3D"),
        ("train", [f"{number:06}" for number in range(23_384)], "HumanML3D"),
        ("val", [f"{number:06}" for number in range(1_459)], "unknown"),
        ("val", [f"walk{number}" for number in range(1_460)], "unknown"),
        ("train", [f"{number:06}" for number in range(1_460)], "unknown"),
    ],
)
def test_a_download_without_index_is_known_by_the_length_of_its_splits(
    tmp_path: Path, split: str, ids: list[str], source: str
):
    made_folder(tmp_path)
    (tmp_path / f"{split}.txt").write_text("\n".join(ids))
    clip = read_one(tmp_path)
    assert clip.source == source
    assert ("AMASS: non-commercial" in clip.licence and "HumanAct12" in clip.licence) == (source == "HumanML3D")
    assert not is_permissive(clip.licence)


def test_a_licence_may_hold_commas_and_holds_for_the_mirrored_copy(tmp_path: Path):
    made_folder(tmp_path)
    made_folder(tmp_path, clip_id="M000007")
    with (tmp_path / "licences.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "source", "licence"), ("000007", "cmu", 'free, "for all"')])
    for clip in (read_one(tmp_path, "000007"), read_one(tmp_path, "M000007")):
        assert (clip.source, clip.licence) == ("cmu", 'free, "for all"')
    assert [read_one(tmp_path, clip_id).mirrored for clip_id in ("000007", "M000007")] == [False, True]


def test_takes_are_listed_or_follow_from_humanml3ds_own_table(tmp_path: Path):
    for name in ("listed", "cut"):
        (tmp_path / name).mkdir()
    made_folder(tmp_path / "listed")
    (tmp_path / "listed" / "takes.csv").write_text("id,take\n000007,CMU/01_02\n")
    made_folder(tmp_path / "listed", clip_id="M000007")
    made_folder(tmp_path / "listed", clip_id="000008")
    ids = ("000007", "M000007", "000008")
    assert [read_one(tmp_path / "listed", clip_id).take for clip_id in ids] == ["CMU/01_02", "CMU/01_02", ""]
    made_folder(tmp_path / "cut")
    row = "./pose_data/CMU/01/01_02_poses.npy,12,212,000007.npy"
    (tmp_path / "index.csv").write_text(f"source_path,start_frame,end_frame,new_name\n{row}\n")
    assert read_one(tmp_path / "cut").take == "./pose_data/CMU/01/01_02_poses.npy"


def test_a_malformed_table_of_takes_is_refused_with_file_and_line(tmp_path: Path):
    made_folder(tmp_path)
    (tmp_path / "takes.csv").write_text("id,take\n000007\n")
    with pytest.raises(ClipError, match=r"takes\.csv:2: expected id,take, got 000007"):
        read_one(tmp_path)


def test_captions_lose_needless_white_space_and_nan_times_mean_the_whole_clip(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("  a  man walks #a#0.0#0.0\n\nhe  turns.#b#nan#nan\nhe stops#c#1.5#2.25\n")
    assert read_captions(path) == (Caption("a man walks"), Caption("he turns."), Caption("he stops", 1.5, 2.25))


@pytest.mark.parametrize(
    ("tokens", "tagged"),
    [
        (" a/DET  man/NOUN walk/VERB ", "a/DET man/NOUN walk/VERB"),
        ("a/OTHER man/NOUN", "a/OTHER man/NOUN"),
        # No part of speech is known, or tokens are something else.
        ("a/OTHER man/OTHER walks/OTHER", ""),
        ("a man walks", ""),
        ("a/DET man walk/VERB", ""),
        ("a/DET /NOUN", ""),
        ("a/DET man/", ""),
        ("", ""),
    ],
)
def test_parts_of_speech_are_those_of_the_text_file_where_it_knows_one(tmp_path: Path, tokens: str, tagged: str):
    path = tmp_path / "a.txt"
    path.write_text(f"a man walks#{tokens}#0.0#0.0\n")
    assert read_captions(path) == (Caption("a man walks", tagged=tagged),)


def test_parts_of_speech_go_with_a_part_and_with_a_mirrored_copy_that_says_the_same(tmp_path: Path):
    text = "he walks#he/PRON walk/VERB#0.0#0.0\nturns left#turn/VERB left/ADV#0.5#1.0\n"
    clip = read_one(made_folder(tmp_path, text=text))
    assert [part.captions for part in split_captions(clip)] == [
        (Caption("he walks", tagged="he/PRON walk/VERB"),),
        (Caption("turns left", tagged="turn/VERB left/ADV"),),
    ]
    assert mirror_clip(clip).captions == (
        Caption("he walks", tagged="he/PRON walk/VERB"),
        Caption("turns right", 0.5, 1.0),
    )


def test_time_tags_cut_a_clip_for_each_part(tmp_path: Path):
    text = "walks#a#0.0#0.0\nturns#b#0.5#1.0\nmoves#c#0.0#0.0\nstops#d#1.5#9.0\n"
    clip = read_one(made_folder(tmp_path, text=text))
    whole, turns, stops = split_captions(clip)
    assert [part.clip_id for part in (whole, turns, stops)] == ["000007", "000007@10-20", "000007@30-180"]
    assert [caption.text for caption in whole.captions] == ["walks", "moves"]
    assert (turns.captions, stops.captions) == ((Caption("turns"),), (Caption("stops"),))
    np.testing.assert_array_equal(whole.joints_m, clip.joints_m)
    # 20 frames a second: half a second is frames 10 to 19; a part that ends late ends with the clip.
    np.testing.assert_allclose(turns.joints_m[:, 0, 0], 0.01 * np.arange(10, 20), atol=1e-6)
    np.testing.assert_allclose(stops.joints_m[:, 0, 0], 0.01 * np.arange(30, 40), atol=1e-6)


def test_a_part_beyond_the_end_of_the_clip_is_no_clip(tmp_path: Path):
    clip = read_one(made_folder(tmp_path, text="walks#a#5.0#6.0\n"))
    assert split_captions(clip) == []


def test_a_mirrored_clip_exchanges_left_and_right_in_motion_and_captions(tmp_path: Path):
    joints_m = np.tile(BODY_22.rest_joints_m, (5, 1, 1))
    # The left wrist goes up.
    joints_m[:, 20] += np.array([0.0, 0.3, 0.1], dtype=np.float32)
    clip = read_one(made_folder(tmp_path, joints_m, "raises the left hand#a#0.0#0.0\n"))
    mirrored = mirror_clip(clip)
    assert (mirrored.clip_id, mirrored.mirrored) == ("M000007", True)
    assert mirrored.captions == (Caption("raises the right hand"),)
    np.testing.assert_allclose(mirrored.joints_m[0, 21], BODY_22.rest_joints_m[21] + [0, 0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(mirrored.joints_m[0, 20], BODY_22.rest_joints_m[20], atol=1e-6)
    np.testing.assert_array_equal(mirror_clip(mirrored).joints_m, clip.joints_m)
    assert mirror_clip(mirrored).captions == clip.captions


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("turns left, then right.", "turns right, then left."),
        ("walks in a clockwise circle", "walks in a counterclockwise circle"),
        ("walks (counterclockwise)", "walks (clockwise)"),
        ("turns counter-clockwise", "turns clockwise"),
        ("turns counter clockwise", "turns clockwise"),
        ("turns anti-clockwise.", "turns clockwise."),
        ("leans leftwards", "leans rightwards"),
        ("stands upright and is left alone", "stands upright and is right alone"),
        ("the left-hand side", "the right-hand side"),
        ("Left foot first", "Right foot first"),
        ("brightly", "brightly"),
        ("", ""),
    ],
)
def test_a_mirrored_text_exchanges_sides_and_nothing_else(text: str, mirrored: str):
    assert mirror_text(text) == mirrored


# What the text file holds, and what the error says after its name.
BAD_TEXTS = {
    "a man walks\n": ":1: expected words#tokens#start#end, got 'a man walks'",
    LINE + "a man#a#0.0\n": ":2: expected words#tokens#start#end, got 'a man#a#0.0'",
    LINE + "\n" + "a # man#a#0.0#0.0\n": ":3: expected words#tokens#start#end, got 'a # man#a#0.0#0.0'",
    " #a#0.0#0.0\n": ":1: expected words#tokens#start#end",
    LINE + "turns#b#one#2.0\n": ":2: start and end must be seconds, got ['one', '2.0']",
    LINE + "turns#b#2.0#1.0\n": ":2: the end must come after the start, got ['2.0', '1.0']",
    LINE + "turns#b#-1.0#1.0\n": ":2: the end must come after the start",
    LINE + "turns#b#1.0#inf\n": ":2: the end must come after the start",
    "": ": no caption in it",
    "\n \n": ": no caption in it",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_malformed_caption_is_refused_with_file_and_line(tmp_path: Path, text: str):
    with pytest.raises(ClipError) as caught:
        read_one(made_folder(tmp_path, text=text))
    assert str(caught.value).startswith(f"{tmp_path / 'texts' / '000007.txt'}{BAD_TEXTS[text]}")


# What licences.csv holds, and what the error says after its name.
BAD_LICENCES = {
    "": ":1: expected id,source,licence, got ",
    "000007,cmu,free\n": ":1: expected id,source,licence, got 000007,cmu,free",
    "id,source,licence\n000007,cmu\n": ":2: expected id,source,licence, got 000007,cmu",
    "id,source,licence\n1,a,b\n2,a,b,c\n": ":3: expected id,source,licence, got 2,a,b,c",
}


@pytest.mark.parametrize("text", BAD_LICENCES)
def test_malformed_licences_are_refused_with_file_and_line(tmp_path: Path, text: str):
    made_folder(tmp_path)
    (tmp_path / "licences.csv").write_text(text)
    with pytest.raises(ClipError) as caught:
        read_one(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'licences.csv'}{BAD_LICENCES[text]}")


BAD_JOINTS = {
    "21 joints": (np.zeros((10, 21, 3)), "expected [F, 22, 3], got [10, 21, 3]"),
    "flat": (np.zeros((10, 66)), "expected [F, 22, 3], got [10, 66]"),
    "words": (np.array(["walk"]), "not an .npy file of numbers"),
    "objects": (np.array([{"walk": 1}]), "not an .npy file of numbers"),
}


@pytest.mark.parametrize("name", BAD_JOINTS)
def test_joints_that_do_not_fit_are_refused_with_their_file(tmp_path: Path, name: str):
    joints_m, message = BAD_JOINTS[name]
    with pytest.raises(ClipError) as caught:
        read_one(made_folder(tmp_path, joints_m))
    assert str(caught.value).startswith(f"{tmp_path / 'new_joints' / '000007.npy'}: {message}")


@pytest.mark.parametrize(
    ("joints_m", "message"),
    [
        (np.zeros((1, 22, 3)), "expected 2 frames or more"),
        (np.full((10, 22, 3), np.nan), "not finite"),
        (np.full((10, 22, 3), 1e30), "farther than 1000 m"),
    ],
)
def test_joints_that_are_no_motion_are_refused_with_their_clip(tmp_path: Path, joints_m: np.ndarray, message: str):
    with pytest.raises(ClipError, match=f"clip 000007: .*{message}"):
        read_one(made_folder(tmp_path, joints_m))


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_refused_by_name(tmp_path: Path, content: bytes):
    made_folder(tmp_path)
    path = tmp_path / "new_joints" / "000007.npy"
    path.write_bytes(content)
    with pytest.raises(ClipError) as caught:
        read_one(tmp_path)
    assert str(caught.value).startswith(f"{path}: not an .npy file of numbers")


def test_an_array_that_breaks_off_is_refused_by_name(tmp_path: Path):
    made_folder(tmp_path)
    path = tmp_path / "new_joints" / "000007.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ClipError, match=r"000007\.npy: not an \.npy file of numbers"):
        read_one(tmp_path)


def test_features_of_another_width_are_refused_with_their_file(tmp_path: Path):
    (tmp_path / "new_joint_vecs").mkdir()
    np.save(tmp_path / "new_joint_vecs" / "000007.npy", np.zeros((10, 251)))
    with pytest.raises(ClipError, match=r"new_joint_vecs/000007\.npy: expected \[F, 263\], got \[10, 251\]"):
        read_one(tmp_path)


def test_text_that_is_not_utf_8_is_refused_by_name(tmp_path: Path):
    made_folder(tmp_path)
    path = tmp_path / "texts" / "000007.txt"
    path.write_bytes("café#a#0.0#0.0\n".encode("latin-1"))
    with pytest.raises(ClipError) as caught:
        read_one(tmp_path)
    assert str(caught.value).startswith(f"{path}: not UTF-8 text")


def test_what_is_missing_is_named(tmp_path: Path):
    made_folder(tmp_path)
    with pytest.raises(ClipError, match=r"neither new_joints/000008\.npy nor new_joint_vecs/000008\.npy"):
        read_one(tmp_path, "000008")
    with pytest.raises(ClipError, match=r"test\.txt: missing; the folder lists the ids of a split in test\.txt"):
        HumanML3DFolder(tmp_path).names("test")
    (tmp_path / "texts" / "000007.txt").unlink()
    with pytest.raises(ClipError, match=r"texts/000007\.txt: missing; each clip has its captions there"):
        read_one(tmp_path)
