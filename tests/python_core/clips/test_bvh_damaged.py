"""Damaged BVH files: each a clear error, none a crash."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from python_core.clips.bvh import BvhFolder
from python_core.clips.clip import ClipError
from python_core.contract.motion import Motion
from python_core.contract.skeleton import BODY_22
from tests.python_core.clips.bvh_files import CMU, CMU_ROWS, bvh_text, made_folder, motion_text, read_one

GOOD = bvh_text(CMU, CMU_ROWS)
NESTED = "HIERARCHY\nROOT a\n" + "{\nOFFSET 0 0 0\nJOINT a\n" * 100_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "bvh:0: the file ends where HIERARCHY was expected"),
        ("\x00\x01\x02", "bvh:1: expected HIERARCHY"),
        (GOOD[: GOOD.index("JOINT LeftLeg")], "the file ends inside the skeleton"),
        (GOOD[: GOOD.index("MOTION")], "the file ends inside the skeleton"),
        (GOOD[: GOOD.index("Frame Time")], "the file ends where Frame Time"),
        (GOOD.rsplit("\n", 2)[0], r"bvh:\d+: the file ends after 4 of 5 frames"),
        (GOOD + "0\n", "expected the end of the file after 5 frames"),
        (GOOD.rsplit(" ", 1)[0], "expected 78 numbers, got 77"),
        (GOOD.replace("17.0", "17,0"), "expected numbers with a decimal point"),
        (GOOD.replace("17.0000000", "nan"), "a number is not finite"),
        (GOOD.replace("17.0000000", "1e300"), "or larger than 1e"),
        (GOOD.replace("Frames: 5", "Frames: 0"), "at least 2 frames"),
        (GOOD.replace("Frames: 5", "Frames: 1"), "at least 2 frames"),
        (GOOD.replace("Frames: 5", "Frames: 1000000000000"), "the file ends after 5 of 1000000000000 frames"),
        (GOOD.replace("Frames: 5", "Frames: " + "9" * 5000), "expected Frames: and their number"),
        (GOOD.replace("Frames: 5", "Frames: five"), r"bvh:\d+: expected Frames: and .* 'Frames: five'"),
        (GOOD.replace("Time: 0.05", "Time: 0"), "expected a frame time between"),
        (GOOD.replace("Time: 0.05", "Time: 33.3"), "expected a frame time between"),
        (GOOD.replace("Time: 0.05", "Time: nan"), "a number is not finite"),
        (GOOD.replace("CHANNELS 3", "CHANNELS 4", 1), "bvh:9: expected CHANNELS, their number"),
        (GOOD.replace("Xrotation", "Zrotation"), "so many different names"),
        (GOOD.replace("Xrotation", "Wrotation"), "channels are Xposition"),
        (GOOD.replace("OFFSET 1.5000000 -1.8000000", "OFFSET -1.8", 1), "bvh:12: expected 3 numbers, got 2"),
        (GOOD.replace("{\nOFFSET 0.0000000 0.0000000 0.0000000\n", "{\n", 1), "'Hips' has no OFFSET"),
        (GOOD.replace("JOINT", "ROOT"), "bvh:6: not expected here"),
        (GOOD.replace("{", "", 1), "expected { after 'Hips'"),
        (GOOD.replace("End Site\n{\n", "End Site\n{\nJOINT a\n"), "not expected here"),
        (re.sub("CHANNELS.*", "CHANNELS 0", GOOD), "no joint has channels"),
        (NESTED, "more than 2000 joints"),
        ("HIERARCHY " + "x" * 2**21, "a line of more than"),
        (GOOD.replace("LeftLeg", "Spine"), "no joint for l_knee"),
        (GOOD.replace("7.2000000", "0.0"), "the legs are 7.4 units long"),
        (GOOD.replace("2.0000000", "0.0").replace("1.8000000", "0.0"), "pelvis and neck are in one place"),
    ],
)
def test_damaged_files_are_refused_with_file_line_and_reason(tmp_path: Path, text: str, told: str):
    with pytest.raises(ClipError, match=told) as error:
        read_one(tmp_path, text)
    assert str(tmp_path / "a.bvh") in str(error.value)
    assert len(str(error.value)) < 2000


def test_files_that_are_no_text_or_missing_are_refused(tmp_path: Path):
    made_folder(tmp_path, "")
    (tmp_path / "a.bvh").write_bytes(b"HIERARCHY\n\xff\xfe\x00")
    with pytest.raises(ClipError, match="not UTF-8 text"):
        BvhFolder(tmp_path).read("a")
    with pytest.raises(ClipError, match=r"b\.bvh: missing"):
        BvhFolder(tmp_path).read("b")


NASTY = st.sampled_from(
    ["", "{", "}", "nan", "-inf", "1e308", "1e9", "-1e6", "0", "-1", "1_0", "99999999999999", "JOINT x", "End Site",
     "OFFSET 0 0 0", "CHANNELS 3 Xrotation Yrotation Zrotation", "MOTION", "Frames: 3", "Hips", "LeftFoot", "\x00",
     "\u202e", "\n", "Frame Time: 1e-9", "٣", "x" * 1000]
)  # fmt: skip
MUTATION = st.tuples(
    st.sampled_from(["drop line", "double line", "swap lines", "word", "insert", "cut", "character"]),
    st.integers(0, 10**6),
    NASTY,
)


def mutated(text: str, kind: str, place: int, nasty: str) -> str:
    lines = text.split("\n")
    row = place % len(lines)
    if kind == "cut":
        return text[: place % (len(text) + 1)]
    if kind == "character":
        place %= len(text) + 1
        return text[:place] + nasty[:1] + text[place + 1 :]
    if kind == "drop line":
        del lines[row]
    elif kind == "double line":
        lines.insert(row, lines[row])
    elif kind == "swap lines":
        other = (place * 7919) % len(lines)
        lines[row], lines[other] = lines[other], lines[row]
    elif kind == "insert":
        lines.insert(row, nasty)
    else:
        words = lines[row].split(" ")
        words[place % len(words)] = nasty
        lines[row] = " ".join(words)
    return "\n".join(lines)


def fuzz_bases() -> list[str]:
    rotations = np.tile(np.array([0, 0, 0, 1], dtype=np.float32), (3, 22, 1))
    still = Motion(np.ones((3, 3), dtype=np.float32), rotations, np.zeros((3, 4), dtype=np.bool_), 20.0)
    return [GOOD, motion_text(still, unit_m=0.01), motion_text(still, BODY_22.joint_names, "XYZ", up="z")]


BASES = fuzz_bases()


def check_mutated(folder: Path, base: int, mutations: list[tuple[str, int, str]]) -> None:
    text = BASES[base]
    for mutation in mutations:
        text = mutated(text, *mutation)
    try:
        read_one(folder, text)
    except ClipError as error:
        told = str(error)
    else:
        # A clip checks itself.
        return
    assert str(folder / "a.bvh") in told


FUZZ = given(base=st.integers(0, len(BASES) - 1), mutations=st.lists(MUTATION, min_size=1, max_size=4))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@FUZZ
def test_damaged_files_give_a_clip_or_a_clip_error(
    tmp_path_factory: pytest.TempPathFactory, base: int, mutations: list[tuple[str, int, str]]
):
    check_mutated(tmp_path_factory.getbasetemp(), base, mutations)


@pytest.mark.slow
@settings(
    max_examples=2500, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@FUZZ
def test_thousands_of_damaged_files_give_a_clip_or_a_clip_error(
    tmp_path_factory: pytest.TempPathFactory, base: int, mutations: list[tuple[str, int, str]]
):
    check_mutated(tmp_path_factory.getbasetemp(), base, mutations)
