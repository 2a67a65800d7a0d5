from dataclasses import replace

import numpy as np
import pytest

from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips
from python_core.evaluation.nearest_caption import NearestCaption
from python_core.evaluation.protocols import PROTOCOLS, Sample, choose_clips, draw_samples, group_texts
from python_core.features import Normalizer

CLIP = PreparedClip(
    clip_id="a",
    split="test",
    source="made",
    licence="CC0-1.0",
    take="",
    captions=("a person walks.",),
    plan=None,
    first_row=0,
    num_rows=100,
)


def prepared(lengths: list[int], frame_rate_hz: float = 20.0) -> PreparedClips:
    clips = tuple(replace(CLIP, clip_id=str(length), num_rows=length) for length in lengths)
    normalizer = Normalizer(np.zeros(263, np.float32), np.ones(263, np.float32))
    return PreparedClips(clips, np.zeros((0, 263), np.float32), normalizer, frame_rate_hz)


def test_humanml3d_takes_40_to_199_rows():
    found = choose_clips(prepared([39, 40, 199, 200]), PROTOCOLS["humanml3d"])
    assert [clip.num_rows for clip in found] == [40, 199]


def test_kit_takes_24_to_199_rows_at_its_own_rate_and_as_long_at_another():
    assert [c.num_rows for c in choose_clips(prepared([23, 24, 199, 200], 12.5), PROTOCOLS["kit"])] == [24, 199]
    assert [c.num_rows for c in choose_clips(prepared([37, 39, 319, 321]), PROTOCOLS["kit"])] == [39, 319]


def test_clips_without_captions_are_left_out_and_an_empty_choice_is_refused():
    clips = prepared([100])
    silent = replace(clips, clips=(replace(CLIP, captions=()),))
    with pytest.raises(ValueError, match="split 'test': no clip has captions and lasts 2 s or more"):
        choose_clips(silent, PROTOCOLS["humanml3d"])


def test_pieces_are_whole_codes_and_a_third_of_them_one_code_shorter():
    clips = [replace(CLIP, num_rows=103) for _ in range(600)]
    samples = draw_samples(clips, PROTOCOLS["humanml3d"], 20.0, np.random.default_rng(1))
    lengths = [sample.num_rows for sample in samples]
    assert {*lengths} == {96, 100}
    assert lengths.count(96) / 600 == pytest.approx(1 / 3, abs=0.06)
    assert {sample.first for sample in samples if sample.num_rows == 100} == {0, 1, 2, 3}


def test_a_piece_is_never_longer_than_49_codes():
    samples = draw_samples([replace(CLIP, num_rows=199)] * 20, PROTOCOLS["humanml3d"], 20.0, np.random.default_rng(1))
    assert max(sample.num_rows for sample in samples) == 196


def test_texts_say_the_same_by_their_words_or_by_the_beats_of_their_plans_or_through_another():
    def sample(caption: str, plan: str | None) -> Sample:
        return Sample(replace(CLIP, plan=plan), caption, 0, 4)

    groups = group_texts(
        [
            sample("A person walks.", None),
            sample("a person walks", "1. walk, 2.0 s"),
            sample("someone goes", "1. walk, 3.0 s"),
            sample("someone sits", "1. sit, 3.0 s"),
        ],
        {},
    )
    assert groups[0] == groups[1] == groups[2] != groups[3]
    composed = [replace(CLIP, source=COMPOSED, clip_id=f"Ja+b@1.{number}") for number in (1, 2)]
    pieces = [Sample(clip, caption, 0, 4) for clip, caption in zip(composed, ("nod", "agree"), strict=True)]
    assert len({*group_texts(pieces, {}).tolist()}) == 1


def test_compositions_of_clips_that_say_the_same_do_too():
    ids = ["Ja+b@1", "Jc+b@2", "Jb+a@3"]
    samples = [Sample(replace(CLIP, source=COMPOSED, clip_id=name), name, 0, 4) for name in ids]
    groups = group_texts(samples, {"Ja+b@1": "a+b", "Jc+b@2": "a+b", "Jb+a@3": "b+a"})
    assert groups[0] == groups[1] != groups[2]


def test_the_nearest_caption_shares_the_rare_words():
    clips = [
        replace(CLIP, clip_id="walk", captions=("a person walks forward.", "someone strolls")),
        replace(CLIP, clip_id="kick", captions=("a person kicks with the left leg.",)),
        replace(CLIP, clip_id="sit", captions=("a person sits down.",)),
    ]
    found = NearestCaption(clips).find(["A man kicks!", "someone strolls along", "he sits down", "zzz"])
    assert [clip.clip_id for clip in found] == ["kick", "walk", "sit", "walk"]


def test_no_captions_to_search_are_refused():
    with pytest.raises(ValueError, match="needs training clips with captions"):
        NearestCaption([replace(CLIP, captions=())])
