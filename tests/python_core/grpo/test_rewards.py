import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from python_core.checkpoint import load_language_model
from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.contract.plan import Beat, parse_plan
from python_core.contract.quality import measure_quality
from python_core.contract.vocabulary import TURN_START, TokenLayout
from python_core.evaluation.judgement import judged_features
from python_core.grpo.replies import ReplyReader
from python_core.grpo.rewards import (
    PAPER_WEIGHTS,
    RewardError,
    Rewards,
    RewardWeights,
    agreement,
    beat_windows,
    length_fit,
)
from python_core.grpo.rollouts import FormShares
from python_core.language_model import text_ids, token_layout
from python_core.motion_tokenizer import MotionTokenizer

PLAN = "1. walk forward, 0.8 s 2. squat, 0.4 s"
CODES = [3, 1, 4, 1, 5, 9]
"""1.2 s, as long as the plan."""


class Projection:
    """A motion by a random view of its mean row, a text by the sum of random directions of its words."""

    def __init__(self) -> None:
        self.view = np.random.default_rng(5).standard_normal((263, 12)).astype(np.float32)

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([sum(_direction(word) for word in caption.split()) for caption in captions])

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        assert all(len(clip) >= 4 for clip in clips)
        return np.stack([clip.mean(axis=0) @ self.view for clip in clips])


def _direction(word: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(12).astype(np.float32)


@pytest.fixture(scope="module")
def prepared(prepared_folder: Path) -> PreparedClips:
    return read_prepared(prepared_folder)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return load_language_model(tiny_checkpoint).tokenizer


@pytest.fixture(scope="module")
def motion_tokenizer(tiny_checkpoint: Path) -> MotionTokenizer:
    return MotionTokenizer.load(tiny_checkpoint / "vqvae")


@pytest.fixture(scope="module")
def layout(tokenizer: Tokenizer, motion_tokenizer: MotionTokenizer) -> TokenLayout:
    return token_layout(tokenizer, motion_tokenizer.model.shape.codebook)


@pytest.fixture(scope="module")
def reader(motion_tokenizer: MotionTokenizer, tokenizer: Tokenizer, layout: TokenLayout) -> ReplyReader:
    return ReplyReader(motion_tokenizer, tokenizer, layout)


@pytest.fixture(scope="module")
def lenient_reader(motion_tokenizer: MotionTokenizer, tokenizer: Tokenizer, layout: TokenLayout) -> ReplyReader:
    """Takes any reasoning, as the paper does."""
    return ReplyReader(motion_tokenizer, tokenizer, layout, any_reasoning=True)


MakeReply = Callable[[str | None, list[int]], list[int]]


@pytest.fixture(scope="module")
def reply(tokenizer: Tokenizer, layout: TokenLayout) -> MakeReply:
    def make(plan: str | None, codes: list[int]) -> list[int]:
        reasoning = None if plan is None else text_ids(tokenizer, plan)
        return [*layout.reply_ids(reasoning, codes), layout.turn_end]

    return make


def score(
    reader: ReplyReader,
    prepared: PreparedClips,
    replies: list[list[int]],
    asked: list[bool] | None = None,
    weights: RewardWeights | None = None,
    evaluator: Any = None,
    group: int | None = None,
    num_beats: int = 2,
    codes: dict[str, list[int]] | None = None,
) -> tuple[dict[str, list[float | None]], dict[str, float]]:
    """All rewards of replies to the first clip's first caption, and what was logged."""
    clip = prepared.split("train")[0]
    logged: dict[str, float] = {}
    rewards = Rewards(reader, evaluator or Projection(), prepared, group or len(replies), codes)
    functions, _ = rewards.functions(weights or RewardWeights())
    values = {}
    for function in functions:
        values[function.__name__] = list(
            function(
                prompts=[clip.captions[0]] * len(replies),
                completions=[""] * len(replies),
                completion_ids=replies,
                clip_id=[clip.clip_id] * len(replies),
                reasoning_asked=asked or [True] * len(replies),
                constrained=[False] * len(replies),
                num_beats=[num_beats] * len(replies),
                trainer_state=SimpleNamespace(global_step=7),
                log_metric=logged.__setitem__,
                log_extra=None,
            )
        )
    return values, logged


def test_every_reward_of_a_good_reply_lies_within_0_and_1(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    values, logged = score(reader, prepared, [reply(PLAN, CODES), reply(PLAN, [7])])
    assert set(values) == set(vars(RewardWeights()))
    for name, of_replies in values.items():
        assert all(value is not None and 0 <= value <= 1 for value in of_replies), name
    assert values["format"] == [1.0, 1.0]
    assert logged["plan/beats"] == 2


def test_a_reply_whose_format_fails_gets_0_from_every_reward(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply, layout: TokenLayout
):
    good = reply(PLAN, CODES)
    broken = [
        good[:-2],
        [layout.turn_end],
        [*good[:-1], layout.motion_open],
        reply("walk somewhere", CODES),
        # A special token, which is not left out of the text.
        reply(f"1. walk {TURN_START}forward, 0.8 s 2. squat, 0.4 s", CODES),
        reply(None, CODES),
        good[: good.index(layout.motion_open) + 2] + good[good.index(layout.motion_open) + 1 :],
    ]
    values, logged = score(reader, prepared, broken)
    for name, of_replies in values.items():
        assert of_replies == [0.0] * len(broken), name
    assert logged["format/unconstrained"] == 0
    assert "plan/tokens" not in logged


def test_without_reasoning_what_is_about_the_plan_does_not_apply(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    values, _ = score(reader, prepared, [reply(None, CODES), reply(PLAN, CODES)], asked=[False, False])
    assert values["plan_agreement"] == [None, 0.0]
    # What is left of the duration is how the motion's length fits the clip's.
    length = length_fit(24 / prepared.split("train")[0].num_rows)
    assert 0 < length < 1
    assert values["duration"] == [pytest.approx(length), 0.0]
    assert values["format"] == [1.0, 0.0]


def test_the_clips_own_codes_are_most_similar_to_it_and_one_more_clip_changes_nothing(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    clip = prepared.split("train")[0]
    codes = reader.motion_tokenizer.encode([np.array(prepared.features(clip))])[0]
    values, _ = score(reader, prepared, [reply(PLAN, codes), reply(PLAN, CODES)])
    assert values["motion_similarity"][0] == pytest.approx(1, abs=1e-5)
    assert values["motion_similarity"][1] is not None
    assert values["motion_similarity"][1] < 1 - 1e-5


def test_semantic_similarity_is_half_of_one_and_the_cosine(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    values, _ = score(reader, prepared, [reply(PLAN, CODES)])
    text = Projection().embed_texts([prepared.split("train")[0].captions[0]])[0]
    motion = Projection().embed_motions([judged_features(reader.motion_tokenizer.decode(CODES))])[0]
    cosine = float(text @ motion / np.linalg.norm(text) / np.linalg.norm(motion))
    assert values["semantic_similarity"] == [pytest.approx((1 + cosine) / 2, abs=1e-5)]


@pytest.mark.parametrize(("num_codes", "expected"), [(6, 1.0), (7, 1.0), (5, 1.0), (8, 1.2 / 1.6), (3, 0.5), (12, 0.5)])
def test_duration_forgives_one_code_and_is_then_the_shorter_over_the_longer(
    num_codes: int, expected: float, reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    values, _ = score(reader, prepared, [reply(PLAN, [2] * num_codes)])
    length = length_fit(4 * num_codes / prepared.split("train")[0].num_rows)
    assert values["duration"] == [pytest.approx(expected * length)]


def test_a_plan_and_a_motion_that_agree_with_each_other_and_not_with_the_clip_are_worth_less(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    assert [length_fit(share) for share in (0.2, 1 / 3, 0.75, 1.0, 1.25, 3.0, 5.0)] == [
        pytest.approx(value) for value in (0, 0, 1, 1, 1, 0, 0)
    ]
    # Half of the way down, in factors.
    assert length_fit(math.sqrt(3 * 1.25)) == pytest.approx(0.5)
    num_rows = prepared.split("train")[0].num_rows
    assert num_rows in (63, 64)
    replies = [reply("1. walk forward, 3.2 s", [2] * 16), reply("1. walk forward, 0.8 s", [2] * 4)]
    values, _ = score(reader, prepared, replies)
    assert values["duration"] == [1.0, 0.0]


def test_quality_is_the_score_that_the_bridge_reports(reader: ReplyReader, prepared: PreparedClips, reply: MakeReply):
    values, logged = score(reader, prepared, [reply(PLAN, CODES)])
    report = measure_quality(reader.motion_tokenizer.decode(CODES))
    assert values["physical_quality"] == [pytest.approx(report.score, abs=1e-4)]
    assert logged["foot_skate_m_s"] == pytest.approx(report.foot_skate_m_s, abs=1e-4)


def test_replies_decoded_side_by_side_are_the_motions_that_each_gives_alone(reader: ReplyReader):
    series = [CODES, [8], [2] * 12]
    for codes, motion in zip(series, reader.motion_tokenizer.decode_all(series), strict=True):
        alone = reader.motion_tokenizer.decode(codes)
        np.testing.assert_allclose(motion.joint_positions_m(), alone.joint_positions_m(), atol=1e-4)
        assert motion.num_frames == 4 * len(codes)


def test_a_clip_whose_codes_are_known_is_not_encoded_again(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    known = {prepared.split("train")[0].clip_id: CODES}
    values, _ = score(reader, prepared, [reply(PLAN, CODES), reply(PLAN, [8])], codes=known)
    same, other = values["motion_similarity"]
    assert same == pytest.approx(1, abs=1e-5)
    assert other is not None
    assert other < 1 - 1e-5


def test_beats_share_the_motion_as_their_durations_say():
    rows = np.arange(120.0)[:, None].astype(np.float32)
    windows = beat_windows(rows, parse_plan("1. a, 1.0 s 2. b, 3.0 s").beats, 20)
    assert [(window[0, 0], window[-1, 0]) for window in windows] == [(0, 29), (30, 119)]
    # A part that is shorter than a second is widened, inward where it is at an end.
    windows = beat_windows(rows[:60], parse_plan("1. a, 0.1 s 2. b, 2.9 s").beats, 20)
    assert [(window[0, 0], window[-1, 0]) for window in windows] == [(0, 19), (2, 59)]
    assert [len(window) for window in beat_windows(rows[:8], parse_plan("1. a, 1.0 s 2. b, 1.0 s").beats, 20)] == [8, 8]


def test_beats_in_another_order_agree_less():
    beats = [Beat("walk", 1.0), Beat("sit", 1.0), Beat("wave", 1.0)]
    cosines = 0.8 * np.eye(3, dtype=np.float32)
    in_order, swapped = agreement(cosines, beats, 3), agreement(cosines[[1, 0, 2]], beats, 3)
    assert in_order == pytest.approx(0.9, abs=1e-3)
    assert swapped < 0.5 * in_order
    # By hand: two beats, margin 0.2.
    cosines = np.array([[0.5, 0.4], [0.4, 0.5]], dtype=np.float32)
    assert agreement(cosines, beats[:2], 2) == pytest.approx(0.75 / (1 + math.exp(-2)), abs=1e-5)


def test_one_beat_or_one_that_is_said_again_does_not_pass_for_order():
    beats = [Beat("walk", 1.0), Beat("sit", 1.0), Beat("wave", 1.0)]
    cosines = 0.8 * np.eye(3, dtype=np.float32)
    whole = agreement(cosines, beats, 3)
    # 0.9 is how well the beats are seen.
    assert agreement(cosines[:1, :1], beats[:1], 1) == pytest.approx(0.9 * 0.5)
    assert agreement(cosines[:1, :1], beats[:1], 3) == pytest.approx(0.9 * 0.5 / 3)
    assert agreement(np.full((3, 3), 0.8, dtype=np.float32), [beats[0]] * 3, 3) == pytest.approx(0.9 * 0.5)
    # Two pairs of three can be told.
    repeated = agreement(cosines, [beats[0], beats[0], beats[2]], 3)
    assert repeated == pytest.approx(0.9 * (0.5 + 1 + 1) / 3, abs=1e-3)
    # More beats than are known cost as much as fewer.
    assert agreement(cosines, beats, 2) == pytest.approx(whole * 2 / 3)
    assert agreement(cosines[:2, :2], beats[:2], 3) == pytest.approx(whole * 2 / 3, abs=1e-3)


def test_agreement_counts_the_beats_that_are_known_for_the_prompt(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    two, four = (
        score(reader, prepared, [reply(PLAN, CODES)], num_beats=known)[0]["plan_agreement"][0] for known in (2, 4)
    )
    assert two is not None
    assert two > 0
    assert four == pytest.approx(two / 2)


def test_a_reward_that_is_no_number_is_an_error_that_says_which_and_where(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    class Broken(Projection):
        def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
            return super().embed_texts(captions) * np.float32(np.nan)

    with pytest.raises(RewardError, match=r"step 7: semantic_similarity of a reply to 'a person walks .*' is nan"):
        score(reader, prepared, [reply(PLAN, CODES)], evaluator=Broken())


def test_groups_in_which_all_replies_are_worth_the_same_are_counted(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    same, other = reply(PLAN, CODES), reply(PLAN, [8])
    _, logged = score(reader, prepared, [same, same, same, other], group=2)
    assert logged["groups_without_variance"] == 0.5
    assert logged["groups_of_mixed_format"] == 0
    _, logged = score(reader, prepared, [same, same[:-2], same, same, same[:-2], same[:-2]], group=2)
    assert logged["groups_of_mixed_format"] == pytest.approx(1 / 3)
    assert logged["groups_without_variance"] == pytest.approx(2 / 3)


def test_rewards_that_hardly_differ_do_not_pass_for_variance(
    reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    class Nearly(Projection):
        def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            return 10 * self.view[:1] + super().embed_motions(clips)

    weights = RewardWeights(0, 1, 0, 0, 0, 0)
    replies = [reply(PLAN, CODES), reply(PLAN, [8])]
    values, logged = score(reader, prepared, replies, weights=weights, evaluator=Nearly())
    first, second = values["motion_similarity"]
    assert first is not None
    assert second is not None
    assert 0 < abs(first - second) < 1e-3
    assert logged["groups_without_variance"] == 1


def test_the_papers_weights_are_its_sum_of_format_and_two_cosines():
    assert {name: weight for name, weight in vars(PAPER_WEIGHTS).items() if weight} == {
        "format": 1.0,
        "motion_similarity": 2.0,
        "semantic_similarity": 2.0,
    }
    with pytest.raises(ValueError, match="one is more"):
        RewardWeights(0, 0, 0, 0, 0, 0)


def test_the_papers_total_is_format_and_the_two_cosines_and_one_of_minus_1_each_where_it_fails(
    lenient_reader: ReplyReader, motion_tokenizer: MotionTokenizer, prepared: PreparedClips, reply: MakeReply
):
    evaluator, clip = Projection(), prepared.split("train")[0]
    good, malformed = reply("walk somewhere", CODES), reply("walk somewhere", CODES)[:-2]
    values, _ = score(lenient_reader, prepared, [good, malformed], weights=PAPER_WEIGHTS)
    weights = vars(PAPER_WEIGHTS)
    totals = [sum(weights[name] * (of[place] or 0.0) for name, of in values.items()) for place in range(2)]

    def unit(embedding: NDArray[np.float32]) -> NDArray[np.floating]:
        return embedding / np.linalg.norm(embedding)

    def embed_codes(codes: list[int]) -> NDArray[np.floating]:
        return unit(evaluator.embed_motions([judged_features(motion_tokenizer.decode(codes))])[0])

    said, text = embed_codes(CODES), unit(evaluator.embed_texts([clip.captions[0]])[0])
    own = embed_codes(motion_tokenizer.encode([np.array(prepared.features(clip))])[0])
    cosines = [float(said @ own), float(said @ text)]
    # The constant is the same for all replies, and the mean of a group takes it out.
    constant = 2.0
    assert totals[0] == pytest.approx(1 + sum(cosines) + constant, abs=1e-5)
    assert totals[1] == pytest.approx(0 - 1 - 1 + constant, abs=1e-5)


def test_the_paper_takes_any_reasoning_but_not_none(
    lenient_reader: ReplyReader, prepared: PreparedClips, reply: MakeReply
):
    replies = [reply("walk somewhere", CODES), reply(None, CODES), reply("", CODES)]
    values, _ = score(lenient_reader, prepared, replies, weights=PAPER_WEIGHTS)
    assert list(values) == ["format", "motion_similarity", "semantic_similarity"]
    assert values["format"] == [1.0, 0.0, 0.0]


def test_what_alarms_watch_is_logged_whichever_rewards_count_and_of_any_reasoning(
    lenient_reader: ReplyReader,
    motion_tokenizer: MotionTokenizer,
    tokenizer: Tokenizer,
    prepared: PreparedClips,
    reply: MakeReply,
):
    replies = [reply("walk somewhere", CODES), reply(PLAN, CODES), reply(PLAN, CODES)[:-2], reply(None, CODES)]
    _, logged = score(
        lenient_reader, prepared, replies, asked=[True, True, True, False], weights=RewardWeights(0, 0, 1, 0, 0, 0)
    )
    assert logged["format/unconstrained"] == 0.75
    num_tokens = [len(text_ids(tokenizer, reasoning)) for reasoning in ("walk somewhere", PLAN)]
    assert logged["plan/tokens"] == np.mean(num_tokens)
    assert logged["plan/beats"] == 2
    skate_m_s = measure_quality(motion_tokenizer.decode(CODES)).foot_skate_m_s
    assert logged["foot_skate_m_s"] == pytest.approx(skate_m_s, abs=1e-4)


def test_the_form_of_a_prompt_is_the_same_everywhere_and_the_shares_hold():
    shares = FormShares(reasoning=0.8, constrained=0.5)
    forms = [shares.form(1, step, f"caption {number}") for step in range(20) for number in range(50)]
    assert np.mean([form.reasoning for form in forms]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([form.constrained for form in forms]) == pytest.approx(0.5, abs=0.05)
    assert shares.form(1, 3, "caption 4") == shares.form(1, 3, "caption 4")
    with pytest.raises(ValueError, match=r"reasoning_share goes from 0 to 1, got 1\.5"):
        FormShares(reasoning=1.5, constrained=0)
