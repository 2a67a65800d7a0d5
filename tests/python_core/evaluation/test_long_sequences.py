from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from python_core.clips.preparation import Rules, Shard, prepare_shard
from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.evaluation.long_sequences import draw_sequences
from python_core.evaluation.protocols import PROTOCOLS, Sample, choose_clips, draw_samples
from python_core.features import Normalizer
from tests.python_core.clips.test_babel import label, write_labels

CLIP = PreparedClip(
    clip_id="a",
    split="val",
    source="made",
    licence="CC0-1.0",
    take="",
    captions=("walk",),
    plan=None,
    first_row=0,
    num_rows=40,
)
RULES = Rules(licence="any", exclude_sources=(), mirror=False, variations=False, min_frames=20, frame_rate_hz=20.0)


def samples_of(*clip_ids: str) -> list[Sample]:
    return [Sample(replace(CLIP, clip_id=clip_id), clip_id, 0, 40) for clip_id in clip_ids]


def draw(samples: list[Sample], length: int, seed: int = 0) -> list[list[str]]:
    sequences = draw_sequences(samples, length, np.random.default_rng(seed))
    return [[sample.clip.clip_id for sample in sequence] for sequence in sequences]


def read_babel(folder: Path) -> PreparedClips:
    """A recording of four actions, as the reader of BABEL and `prepare` have it, in split val."""
    labels = [("walk", 0, 3), ("turn", 3, 5), ("transition", 5, 5.4), ("sit", 5.4, 8), ("wave", 8, 11)]
    # As annotators leave them, in no order.
    reader = write_labels(folder, *(label(*labels[place]) for place in (3, 0, 4, 2, 1)), split="val")
    shard = Shard(
        number=0,
        reader=reader,
        folder=folder,
        prefix="",
        split="val",
        names=tuple(reader.names("val")),
        with_copies=frozenset(),
    )
    made, rows = prepare_shard(shard, RULES)
    normalizer = Normalizer(np.zeros(263, np.float32), np.ones(263, np.float32))
    return PreparedClips(tuple(made.clips), np.concatenate(rows), normalizer, 20.0)


def test_segments_of_babel_are_single_actions_and_neither_planned_windows_nor_wholes_of_several(tmp_path: Path):
    prepared = read_babel(tmp_path)
    assert [clip.clip_id for clip in prepared.clips if clip.plan] == ["babel/5593+0-550"]
    assert "babel/5593" in {clip.clip_id for clip in prepared.clips}
    # The whole and the window are too long here, which other recordings of several actions are not.
    protocol = replace(PROTOCOLS["babel"], end_s=60.0)
    segments = choose_clips(prepared, protocol)
    assert {clip.captions for clip in segments} == {("walk",), ("turn",), ("sit",), ("wave",)}
    assert all(clip.plan is None for clip in segments)


def test_a_recording_without_labels_of_parts_is_a_segment_and_so_is_one_whose_plan_has_one_beat():
    clips = tuple(
        replace(CLIP, clip_id=clip_id, plan=plan)
        for clip_id, plan in (
            ("whole", None),
            ("one beat", "1. walk, 2.0 s"),
            ("two beats", "1. walk, 1.0 s 2. sit, 1.0 s"),
            ("parts", None),
            ("parts@0-40", None),
        )
    )
    normalizer = Normalizer(np.zeros(263, np.float32), np.ones(263, np.float32))
    found = choose_clips(PreparedClips(clips, None, normalizer, 20.0), PROTOCOLS["babel"])
    assert [clip.clip_id for clip in found] == ["whole", "one beat", "parts@0-40"]
    # Clips of several actions are what the other protocols are about.
    found = choose_clips(PreparedClips(clips, None, normalizer, 20.0), PROTOCOLS["humanml3d"], "val")
    assert len(found) == 5


@pytest.mark.parametrize("seed", range(3))
def test_actions_of_babel_come_in_the_order_in_which_they_were_done(tmp_path: Path, seed: int):
    prepared, random = read_babel(tmp_path), np.random.default_rng(seed)
    samples = draw_samples(choose_clips(prepared, PROTOCOLS["babel"]), PROTOCOLS["babel"], 20.0, random)
    random.shuffle(samples)  # pyright: ignore[reportArgumentType]  # A list is shuffled in place.
    (sequence,) = draw_sequences(samples, 4, random)
    assert [sample.caption for sample in sequence] == ["walk", "turn", "sit", "wave"]


def test_parts_of_a_recording_stay_together_and_recordings_are_shuffled():
    samples = samples_of("a@100-140", "b@0-40", "a@0-40", "c", "b@40-80", "a@9-100", "d")
    orders = set()
    for seed in range(20):
        (sequence,) = draw(samples, 7, seed)
        assert Counter(sequence) == Counter(sample.clip.clip_id for sample in samples)
        assert {("a@0-40", "a@9-100"), ("a@9-100", "a@100-140"), ("b@0-40", "b@40-80")} <= {*pairwise(sequence)}
        orders.add(tuple(sequence))
    assert len(orders) > 5


def test_clips_that_belong_to_no_recording_are_shuffled_and_what_fills_no_sequence_is_left_out():
    samples = samples_of(*"abcdefgh")
    sequences = draw(samples, 3)
    assert [len(sequence) for sequence in sequences] == [3, 3]
    assert len({name for sequence in sequences for name in sequence}) == 6
    assert sequences == draw(samples, 3) != draw(samples, 3, seed=1)


def test_sequences_that_cannot_be_drawn_are_refused():
    for num_samples, length in ((3, 4), (3, 1)):
        with pytest.raises(ValueError, match=f"2 segments or more, and all of {length} from {num_samples} clips"):
            draw(samples_of(*"abc"), length)
