import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from python_core.clips.prepared import read_prepared, write_prepared
from python_core.contract.plan import parse_plan
from python_core.evaluation.clip_evaluation import ClipEvaluation
from python_core.evaluation.val_composed import (
    SPLIT,
    SUMMARY,
    ValComposed,
    ValComposedConfig,
    compose_val,
    say_the_same,
)
from python_core.evaluators.evaluator import Evaluator
from python_core.stages.evaluate import PRESETS
from tests.conftest import moved, write_clips

NUM = 14
MOVES = {
    "right": ((17, 2, 0.9), "a person raises the right arm."),
    "left": ((16, 2, -0.9), "someone lifts the left hand."),
    "nod": ((12, 0, 0.4), "a person nods."),
    "bow": ((3, 0, 0.5), "a man bows."),
    "look": ((12, 1, 0.6), "a person looks to the left."),
}
TAKE = {"nod": "sitting 1", "bow": "sitting 1"}
"""Two clips are cut from one recording."""
"""Joint, axis and angle of what moves, and what is said; each begins and ends at rest, so that all go together."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors here are small: threads would wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five val clips, a sixth that must not be used, and one to train on."""
    made = []
    for number, name in enumerate([*MOVES, "secret", "train"]):
        (joint, axis, angle), caption = MOVES.get(name, MOVES["nod"])
        fields = {"clip_id": name, "captions": (caption,), "take": TAKE.get(name, "")}
        if name == "secret":
            fields |= {"licence": "CC BY-NC 4.0", "captions": ("a person shakes the head.",)}
        elif name == "train":
            fields |= {"split": "train"}
        made.append((moved(joint, axis, angle, 36 + 2 * number), fields))
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, made)
    return folder


@pytest.fixture(scope="module")
def composed(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ValComposed]:
    out = tmp_path_factory.mktemp("out") / "val_composed"
    return out, compose_val(clips, out, ValComposedConfig(num=NUM))


def test_mirrored_copies_that_a_folder_brought_itself_change_nothing(
    clips: Path, composed: tuple[Path, ValComposed], tmp_path: Path
):
    prepared = read_prepared(clips)
    records = list(prepared.clips)
    rows = [np.array(prepared.features(clip)) for clip in records]
    for clip in prepared.split("val"):
        records.append(replace(clip, clip_id=f"M{clip.clip_id}", first_row=sum(map(len, rows))))
        rows.append(np.array(prepared.features(clip)))
    write_prepared(tmp_path / "clips", records, rows, 20.0)
    again = compose_val(tmp_path / "clips", tmp_path / "out", ValComposedConfig(num=NUM))
    assert again.prepared.clips == composed[1].prepared.clips


def test_compositions_are_of_permissive_val_clips_only_and_remember_which(composed: tuple[Path, ValComposed]):
    _, found = composed
    assert len(found.prepared.clips) == NUM
    assert {clip.split for clip in found.prepared.clips} == {SPLIT}
    for clip in found.prepared.clips:
        sources = found.made_of[clip.clip_id]
        names = clip.clip_id[1:].split("@")[0].split("+")
        originals = {name if name in MOVES else name.removeprefix("M") for name in names}
        # Mirrored copies and clips of one take are of the same recording.
        assert sources == tuple(sorted({TAKE.get(name, name) for name in originals}))
        assert len(parse_plan(clip.plan or "").beats) >= len(sources) - 1


def test_meanings_are_those_of_the_clips_in_order_with_the_part_that_is_mixed(composed: tuple[Path, ValComposed]):
    _, found = composed
    for clip in found.prepared.clips:
        names = clip.clip_id[1:].split("@")[0].split("+")
        # A nod is mirrored as itself.
        said = "+".join({"nod": "Mnod", "bow": "Mbow"}.get(name, name) for name in names)
        meaning = found.meanings[clip.clip_id]
        assert meaning.split(" by ")[0] == said
        assert (" by the " in meaning) == clip.clip_id.startswith("X")


def test_clips_say_the_same_if_they_share_a_phrase_and_mirrored_ones_only_then():
    phrases = {
        "walk": ["walk forward", "stroll"],
        "Mwalk": ["walk forward", "stroll"],
        "again": ["stroll"],
        "left": ["turn left"],
        "Mleft": ["turn right"],
        "right": ["turn right"],
    }
    found = say_the_same(phrases)
    assert found == {
        "walk": "Mwalk",
        "Mwalk": "Mwalk",
        "again": "Mwalk",
        "left": "left",
        "Mleft": "Mleft",
        "right": "Mleft",
    }


def test_no_choice_of_clips_comes_twice_and_rows_are_those_of_the_clips(composed: tuple[Path, ValComposed]):
    _, found = composed
    choices = [clip.clip_id.split("@")[0] for clip in found.prepared.clips]
    assert len({*choices}) == NUM
    for first, second in combinations(found.prepared.clips, 2):
        assert first.captions != second.captions
    for clip in found.prepared.clips:
        rows = found.prepared.features(clip)
        assert rows.shape == (clip.num_rows, 263)
        assert np.isfinite(rows).all()
        seconds = parse_plan(clip.plan or "").duration_s
        assert seconds == pytest.approx(clip.num_rows / 20, abs=0.06)


def test_a_second_call_reads_what_is_there_and_another_seed_is_refused(composed: tuple[Path, ValComposed], clips: Path):
    out, found = composed
    written = (out / "rows.npy").stat().st_mtime_ns
    again = compose_val(clips, out, ValComposedConfig(num=NUM))
    assert (out / "rows.npy").stat().st_mtime_ns == written
    assert again.made_of == found.made_of
    with pytest.raises(ValueError, match="holds a run with another seed"):
        compose_val(clips, out, ValComposedConfig(num=NUM, seed=2))
    summary = json.loads((out / SUMMARY).read_text())
    assert summary["num"] == NUM
    assert sum(summary["by_beats"].values()) == NUM


def test_a_few_clips_that_cannot_be_composed_are_refused(clips: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no 2 of 1 permissive clips of split 'train' fit together"):
        compose_val(clips, tmp_path / "out", ValComposedConfig(num=4, split="train"))


def test_what_chooses_weights_is_left_out_of_tables(clips: Path, composed: tuple[Path, ValComposed]):
    out, found = composed
    config = replace(PRESETS["tiny"], prepared=clips, compositions=out, composed=ValComposedConfig(num=NUM))
    evaluation = ClipEvaluation(config, cast(Evaluator, None), read_prepared(clips), None)
    evaluated = {clip.clip_id for clip in evaluation.bench.clips}
    assert 0 < len(evaluated) < NUM
    assert evaluated == {clip_id for clip_id in found.meanings if not found.is_for_choosing(clip_id)}
    assert f"Texts are {len(evaluated)} of {NUM} compositions" in evaluation.notes[1]
