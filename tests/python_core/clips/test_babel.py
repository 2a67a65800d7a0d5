import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from python_core.clips.amass import AmassFolder
from python_core.clips.babel import BabelFolder
from python_core.clips.clip import Caption, Clip, ClipError, split_captions
from python_core.clips.licences import AMASS_LICENCE
from python_core.contract.plan import MAX_BEATS, format_plan

WALK = "KIT/KIT/3/walking_poses.npz"
RATE_HZ = 50.0


def label(text: str, start_t: float | None = None, end_t: float | None = None, **others: Any) -> dict[str, Any]:
    times = {} if start_t is None else {"start_t": start_t, "end_t": end_t}
    return {"raw_label": text, "proc_label": text, "act_cat": [text]} | times | others


def write_labels(
    folder: Path, *timed: dict[str, Any], split: str = "train", duration_s: float = 12.0, **others: Any
) -> BabelFolder:
    """One sequence, 5593, of a recording in which the body moves by a centimetre a frame."""
    num_frames = round(duration_s * RATE_HZ)
    (folder / "amass" / "KIT" / "3").mkdir(parents=True, exist_ok=True)
    poses, trans_m = np.zeros((num_frames, 156)), np.zeros((num_frames, 3))
    poses[:, 0], trans_m[:, 0] = np.pi / 2, 0.01 * np.arange(num_frames)
    np.savez(folder / "amass" / "KIT" / "3" / "walking_poses.npz", poses=poses, trans=trans_m, mocap_framerate=RATE_HZ)
    sequence = {
        "babel_sid": 5593,
        "feat_p": WALK,
        "dur": duration_s,
        "seq_ann": {"labels": [label("walk around")]},
        "frame_ann": {"labels": list(timed)} if timed else None,
    }
    (folder / f"{split}.json").write_text(json.dumps({"5593": sequence | others}))
    return BabelFolder(folder, AmassFolder(folder / "amass"))


def read_all(reader: BabelFolder, split: str = "train") -> list[Clip]:
    (name,) = reader.names(split)
    return reader.read(name)


def plans(clips: list[Clip]) -> list[str]:
    return [format_plan(clip.plan) for clip in clips[1:] if clip.plan]


def first_frame(clip: Clip) -> int:
    """Which frame of the recording a clip begins with."""
    # The files' X is the other way round than ours.
    return round(float(-clip.joints_m[0, 0, 0]) / 0.01)


def test_labels_become_captions_of_the_whole_and_of_parts(tmp_path: Path):
    reader = write_labels(tmp_path, label("walk", 0, 2.5), label("transition", 2.5, 3), label("sit  down", 3, 5))
    assert reader.names("train") == ["train/5593"]
    clip, *planned = read_all(reader)
    assert clip.captions == (Caption("walk around"), Caption("walk", 0, 2.5), Caption("sit down", 3, 5))
    assert (clip.clip_id, clip.frame_rate_hz, clip.source) == ("babel/5593", RATE_HZ, "KIT")
    assert clip.licence == f"{AMASS_LICENCE}; BABEL labels: non-commercial research"
    assert clip.take == "KIT/3/walking_poses.npz"
    assert clip.assumed == "joints of a mean body for everybody"
    assert clip.plan is None
    assert len(planned) == 1
    parts = split_captions(clip)
    assert [len(part.joints_m) for part in parts] == [600, 125, 100]
    assert first_frame(parts[2]) == 150


def test_a_sequence_without_labels_of_parts_has_no_plan(tmp_path: Path):
    (clip,) = read_all(write_labels(tmp_path))
    assert clip.captions == (Caption("walk around"),)


def test_actions_one_after_the_other_are_a_plan_with_their_exact_durations(tmp_path: Path):
    reader = write_labels(tmp_path, label("sit", 4.3, 9.0), label("walk", 1.02, 3.96), label("transition", 3.96, 4.3))
    whole, planned = read_all(reader)
    # The transition is part of the beat that it leads to.
    assert format_plan(planned.plan) == "1. walk, 3.0 s 2. sit, 5.0 s"  # pyright: ignore[reportArgumentType]
    assert planned.captions == (Caption("walk, then sit"),)
    assert first_frame(planned) == 50
    assert len(planned.joints_m) == 400
    assert planned.plan is not None
    assert len(planned.joints_m) / RATE_HZ == pytest.approx(planned.plan.duration_s)
    assert planned.clip_id == "babel/5593+50-450"
    np.testing.assert_array_equal(planned.joints_m, whole.joints_m[50:450])


def test_more_beats_than_a_plan_has_become_consecutive_windows(tmp_path: Path):
    reader = write_labels(tmp_path, *(label(f"action {chr(97 + n)}", n, n + 1) for n in range(12)))
    windows = read_all(reader)[1:]
    assert [len(window.plan.beats) for window in windows if window.plan] == [MAX_BEATS, MAX_BEATS, 2]
    assert [first_frame(window) for window in windows] == [0, 250, 500]
    # A single beat that is left over is no sequence.
    reader = write_labels(tmp_path / "six", *(label(f"action {chr(97 + n)}", n, n + 1) for n in range(6)))
    assert len(plans(read_all(reader))) == 1


OVERLAPS = {
    "one inside the other": (
        [("walk", 0, 10), ("wave", 3, 5)],
        ["1. walk, 3.0 s 2. walk and wave, 2.0 s 3. walk, 5.0 s"],
    ),
    "a seam": ([("walk", 0, 5.2), ("sit", 5, 8)], ["1. walk, 5.0 s 2. sit, 3.0 s"]),
    "a gap of a moment": ([("walk", 0, 5), ("sit", 5.3, 8)], ["1. walk, 5.0 s 2. sit, 3.0 s"]),
    "the same twice": ([("walk", 0, 5), ("walk", 4, 8), ("sit", 8, 9)], ["1. walk, 8.0 s 2. sit, 1.0 s"]),
    "transition at the end": (
        [("walk", 0, 5), ("sit", 5, 8), ("transition", 8, 9)],
        ["1. walk, 5.0 s 2. sit, 4.0 s"],
    ),
    "transition over an action": (
        [("walk", 0, 5), ("transition", 4, 6), ("sit", 6, 8)],
        ["1. walk, 5.0 s 2. sit, 3.0 s"],
    ),
    "two seconds of nothing": (
        [("walk", 0, 2), ("sit", 2, 4), ("run", 6, 8), ("hop", 8, 10)],
        ["1. walk, 2.0 s 2. sit, 2.0 s", "1. run, 2.0 s 2. hop, 2.0 s"],
    ),
    "nothing around one action": ([("walk", 0, 2), ("sit", 4, 6)], []),
    "up to the end": ([("walk", 0, 5), ("sit", 5, 12.04)], ["1. walk, 5.0 s 2. sit, 7.0 s"]),
    "marks that a plan has for itself": (
        [("walk (fast)", 0, 5), ("sit <down>", 5, 8)],
        ["1. walk fast, 5.0 s 2. sit down, 3.0 s"],
    ),
    "words that read as a beat": (
        [("walk", 0, 2), ("sit", 2, 4), ("do 2. thing", 4, 6), ("hop", 6, 8)],
        ["1. walk, 2.0 s 2. sit, 2.0 s"],
    ),
    "no time": ([("walk", 0, 5), ("blink", 3, 3), ("sit", 5, 8)], ["1. walk, 5.0 s 2. sit, 3.0 s"]),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_labels_that_overlap_or_leave_gaps_become_beats_as_the_rules_say(tmp_path: Path, name: str):
    labels, expected = OVERLAPS[name]
    clips = read_all(write_labels(tmp_path, *(label(*parts) for parts in labels), duration_s=12.02))
    assert plans(clips) == expected
    for clip in clips[1:]:
        assert clip.plan is not None
        assert len(clip.joints_m) / RATE_HZ == pytest.approx(clip.plan.duration_s, abs=0.021)


def test_a_beat_of_more_than_a_minute_is_in_no_plan(tmp_path: Path):
    labels = (
        label("walk", 0, 2),
        label("sit", 2, 4),
        label("sleep", 4, 70),
        label("run", 70, 72),
        label("hop", 72, 74),
    )
    clips = read_all(write_labels(tmp_path, *labels, duration_s=75))
    assert plans(clips) == ["1. walk, 2.0 s 2. sit, 2.0 s", "1. run, 2.0 s 2. hop, 2.0 s"]


def test_extra_labels_of_several_annotators_are_all_captions_and_the_first_makes_the_plan(tmp_path: Path):
    reader = write_labels(
        tmp_path,
        split="extra_train",
        seq_ann=None,
        seq_anns=[{"labels": [label("walk")]}, {"labels": [label("stroll")]}],
        frame_anns=[
            None,
            {"labels": [label("walk", 0, 2), label("sit", 2, 4)]},
            {"labels": [label("go", 0, 3), label("rest", 3, 4)]},
        ],
    )
    clip, *planned = read_all(reader, "extra_train")
    assert [caption.text for caption in clip.captions] == ["walk", "stroll", "walk", "sit", "go", "rest"]
    assert plans([clip, *planned]) == ["1. walk, 2.0 s 2. sit, 2.0 s"]


def test_what_annotators_wrote_counts_and_a_label_without_words_does_not(tmp_path: Path):
    labels = (
        label("walks 2 steps", 0, 2, proc_label="walk steps"),
        label("", 2, 4, proc_label="sit"),
        label("", 4, 5, proc_label=None),
        label("gets ready", 5, 6, proc_label="transition"),
    )
    clip = read_all(write_labels(tmp_path, *labels))[0]
    assert [caption.text for caption in clip.captions] == ["walk around", "walks 2 steps", "sit"]


BAD_SEQUENCES = {
    "no recording": ({"feat_p": None}, "feat_p must be a str, got 'None'"),
    "another recording": ({"feat_p": "KIT/KIT/3/other_poses.npz"}, "no recording 'KIT/KIT/3/other_poses.npz'"),
    "behind the end": ({"frame_ann": {"labels": [label("walk", 0, 14)]}}, "from 0 to 14 s, the recording lasts 12"),
    "backwards": ({"frame_ann": {"labels": [label("walk", 4, 2)]}}, "'walk' is from 4 to 2 s"),
    "before the start": ({"frame_ann": {"labels": [label("walk", -1, 2)]}}, "'walk' is from -1 to 2 s"),
    "no time": ({"frame_ann": {"labels": [label("walk")]}}, "start_t must be seconds, got 'None'"),
    "nan": ({"frame_ann": {"labels": [label("walk", float("nan"), 2)]}}, "start_t must be seconds, got 'nan'"),
    "a truth": ({"frame_ann": {"labels": [label("walk", True, 2)]}}, "start_t must be seconds, got 'True'"),
    "no words": ({"seq_ann": {"labels": [{"raw_label": 5}]}}, "a label must be words, got '5'"),
    "half a letter": ({"seq_ann": {"labels": [{"raw_label": "\ud800"}]}}, "a label must be words"),
    "a label that is none": ({"seq_ann": {"labels": ["walk"]}}, "a label must have fields, got str"),
    "no labels": ({"seq_ann": {}}, "seq_ann: labels must be a list"),
    "a list": ({"seq_ann": []}, "seq_ann must hold labels, got list"),
    "no list": ({"seq_anns": {}}, "seq_anns must be a list, got dict"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SEQUENCES)
def test_labels_that_do_not_fit_are_refused_with_their_file_and_sequence(tmp_path: Path, name: str):
    fields, message = BAD_SEQUENCES[name]
    with pytest.raises(ClipError) as caught:
        read_all(write_labels(tmp_path, **fields))
    assert message in str(caught.value)
    if name != "another recording":
        assert str(caught.value).startswith(f"{tmp_path / 'train.json'}: 5593")


def test_files_that_are_no_labels_are_refused_by_name(tmp_path: Path):
    reader = write_labels(tmp_path)
    with pytest.raises(ClipError, match=r"val\.json: missing"):
        reader.names("val")
    with pytest.raises(ClipError, match=r"train\.json: no sequence '7'"):
        reader.read("train/7")
    for number, content in enumerate([b"", b"{", b"[]", b'{"1": 2}', b"\xff", b"[" * 100_000]):
        (tmp_path / f"bad{number}.json").write_bytes(content)
        with pytest.raises(ClipError, match=rf"bad{number}\.json: "):
            reader.names(f"bad{number}")
