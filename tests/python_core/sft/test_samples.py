from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from python_core.clips.prepared import COMPOSED
from python_core.contract.plan import parse_plan
from python_core.contract.prompt import PromptTemplate
from python_core.contract.vocabulary import PROMPT_TEMPLATE, ReplyParser, TokenLayout, parse_reply
from python_core.sft.samples import (
    IGNORED,
    WORDLESS,
    HeldOutSamples,
    Sample,
    SampleShares,
    SampleWriter,
    TrainingSamples,
)
from python_core.stages.build_reasoning import WRITTEN
from tests.python_core.sft.conftest import CODE_S, CODES, EXACT, GUESSED, ONE_BEAT, PLANS

CLIPS = [ONE_BEAT, EXACT, GUESSED]


def shared(writer: SampleWriter, **shares: Any) -> SampleWriter:
    changed = replace(writer.shares, **shares)
    return SampleWriter(PLANS, CODES, CODE_S, writer.tokenizer, writer.layout, changed)


def read(sample: Sample, writer: SampleWriter) -> tuple[str, ReplyParser, list[int]]:
    """Caption, reply and the codes that are given."""
    layout = writer.layout
    ids, scored = sample.input_ids, [label != IGNORED for label in sample.labels]
    assert [label for label in sample.labels if label != IGNORED] == [
        token for token, counts in zip(ids, scored, strict=True) if counts
    ]
    begin = scored.index(True)
    caption = writer.tokenizer.decode(ids[:begin]).split("user\n")[1].split("\nassistant")[0]
    reply = parse_reply(ids[begin:], layout)
    given = [token for token, counts in zip(ids[begin:], scored[begin:], strict=True) if not counts]
    assert all(layout.is_of_code(token) for token in given)
    return caption, reply, reply.codes[: len(given) // layout.num_levels]


def test_what_is_scored_is_the_whole_reply_and_nothing_else(writer: SampleWriter):
    writer = shared(writer, history_share=0.0, plan_share=1.0)
    for clip in CLIPS:
        sample = writer.of_clip(clip, np.random.default_rng(0), with_plan=True)
        caption, reply, given = read(sample, writer)
        assert not given
        assert reply.codes == CODES[clip.clip_id][0]
        (record,) = (record for record in PLANS if record.clip_id == clip.clip_id)
        assert caption.rstrip(".") == record.caption.rstrip(".")
        assert writer.tokenizer.decode(reply.reasoning_ids or []) == record.plan


def test_a_share_of_the_codes_is_read_as_others_and_all_are_scored(writer: SampleWriter):
    assert writer.of_clip(ONE_BEAT, np.random.default_rng(0), with_plan=True).read_ids is None
    corrupting = shared(writer, corruption=0.6)
    changed = []
    for number in range(200):
        sample, plain = (of.of_clip(ONE_BEAT, np.random.default_rng(number), True) for of in (corrupting, writer))
        assert (sample.input_ids, sample.labels) == (plain.input_ids, plain.labels)
        assert sample.read_ids is not None
        layout, level_of = writer.layout, (lambda token: (token - writer.layout.first_code) // writer.layout.level_size)
        for token, read_instead in zip(sample.input_ids, sample.read_ids, strict=True):
            assert token == read_instead or (layout.is_of_code(token) and level_of(token) == level_of(read_instead))
        firsts = [place for place, token in enumerate(sample.input_ids) if level_of(token) == 0]
        changed.append(np.mean([sample.input_ids[p : p + 2] != sample.read_ids[p : p + 2] for p in firsts]))
    assert max(changed) < 0.95
    assert np.mean(changed) == pytest.approx(0.3, abs=0.05)  # From 0 to 0.6 by the sample.
    again = corrupting.of_clip(ONE_BEAT, np.random.default_rng(7), with_plan=True)
    assert again == corrupting.of_clip(ONE_BEAT, np.random.default_rng(7), with_plan=True)


def test_later_levels_of_a_share_of_the_codes_are_scored_and_the_first_code_is_whole(writer: SampleWriter):
    thinning, layout, shares = shared(writer, depth_share=0.25, plan_share=1.0, history_share=0.0), writer.layout, []
    for number in range(100):
        sample = thinning.of_clip(ONE_BEAT, np.random.default_rng(number), with_plan=True)
        places = [p for p, token in enumerate(sample.input_ids) if 0 <= token - layout.first_code < layout.level_size]
        assert all(sample.labels[place] != IGNORED for place in places)
        whole = [sample.labels[place + 1] != IGNORED for place in places]
        assert whole[0]
        shares.append(np.mean(whole[1:]))
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)


def test_plans_and_the_first_codes_of_beats_count_as_much_as_is_said(writer: SampleWriter):
    writer = shared(writer, plan_weight=3.0, opening_weight=10.0, later_weight=0.5, plan_share=1.0, history_share=0.5)
    num_levels, with_history = writer.layout.num_levels, set()
    # Of the 20 codes; only of exact plans more than the first is known.
    begins = {"one": (0,), "exact": (0, 8, 12), "guessed": (0,)}
    for number in range(60):
        clip = CLIPS[number % 3]
        sample = writer.of_clip(clip, np.random.default_rng(number), with_plan=True)
        _, reply, given = read(sample, writer)
        assert sample.weights is not None
        scored = [w for w, label in zip(sample.weights, sample.labels, strict=True) if label != IGNORED]
        begun = 1 if reply.reasoning_ids is None else len(reply.reasoning_ids) + 3
        assert scored[:begun] == [3.0] * begun
        codes, first = scored[begun:-2], 20 - (len(scored) - 2 - begun) // num_levels
        # What goes on from anywhere within a beat begins none.
        known = [begin - first for begin in begins[clip.clip_id] if first == 0 or (clip is EXACT and begin >= first)]
        assert codes[::num_levels] == [10.0 if code in known else 1.0 for code in range(20 - first)]
        assert codes[1::num_levels] == [0.5 * weight for weight in codes[::num_levels]]
        assert scored[-2:] == [1.0, 1.0]
        if given:
            with_history.add(clip.clip_id)
    assert with_history == {"one", "exact"}
    text = writer.of_text(np.random.default_rng(0))
    assert set(text.weights or []) == {3.0}


@pytest.mark.parametrize(
    "shares",
    [
        {"corruption": 1.1},
        {"balance": -0.1},
        {"written_share": 1.5},
        {"wordless_share": -1.0},
        {"depth_share": 0.0},
        {"plan_weight": 0.0},
        {"later_weight": -1.0},
        {"opening_weight": float("nan")},
    ],
)
def test_shares_and_weights_that_cannot_be_are_refused(shares: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(shares))):
        SampleShares(**shares)  # pyright: ignore[reportArgumentType]


def test_the_plan_lasts_as_long_as_the_codes_also_after_history(writer: SampleWriter):
    writer = shared(writer, history_share=0.7, plan_share=1.0)
    planned = 0
    for number in range(100):
        clip = CLIPS[number % 3]
        _, reply, given = read(writer.of_clip(clip, np.random.default_rng(number), with_plan=True), writer)
        if reply.reasoning_ids is not None:
            plan = parse_plan(writer.tokenizer.decode(reply.reasoning_ids))
            assert plan.duration_s / CODE_S == pytest.approx(len(reply.codes) - len(given), abs=1)
            planned += bool(given)
    assert planned > 10


def test_a_single_beat_takes_the_time_of_its_codes(writer: SampleWriter):
    writer = shared(writer, history_share=0.0, plan_share=1.0)
    writer.codes = CODES | {"one": [list(range(17))]}
    _, reply, _ = read(writer.of_clip(ONE_BEAT, np.random.default_rng(0), with_plan=True), writer)
    assert writer.tokenizer.decode(reply.reasoning_ids or []) == "1. walk, 3.4 s"
    _, held_out, _ = read(HeldOutSamples(writer, [ONE_BEAT])[0], writer)
    assert held_out.reasoning_ids == reply.reasoning_ids


def test_a_plan_that_is_too_long_to_be_read_back_is_not_learned(
    sft_tokenizer: Tokenizer, layout: TokenLayout, caplog: pytest.LogCaptureFixture
):
    long = replace(PLANS[0], plan=f"1. {'walk and ' * 60}walk, 4.0 s")
    writer = SampleWriter([*PLANS, long], CODES, CODE_S, sft_tokenizer, layout, SampleShares())
    assert long not in writer.by_clip["one"]
    assert "1 of 5 plans left out: more than 96 tokens" in caplog.text
    # A clip that has no other plan is left out with it.
    writer = SampleWriter([long, *PLANS[1:]], CODES, CODE_S, sft_tokenizer, layout, SampleShares())
    assert TrainingSamples(writer, CLIPS, batch=4, batches=1, steps=40, seed=3).clips == [EXACT, GUESSED]
    assert "1 of 3 clips left out: all of their plans are too long" in caplog.text
    with pytest.raises(ValueError, match="none of 1 clips has 1 to 49 codes and a plan of at most 96 tokens"):
        HeldOutSamples(writer, [ONE_BEAT])


def test_a_steered_motion_goes_on_from_the_beat_before_and_is_asked_for_what_is_left(writer: SampleWriter):
    writer = shared(writer, history_share=1.0, plan_share=1.0)
    seen = set()
    for number in range(60):
        caption, reply, given = read(writer.of_clip(EXACT, np.random.default_rng(number), with_plan=True), writer)
        plan = writer.tokenizer.decode(reply.reasoning_ids or [])
        cut = {"1. turn left, 0.8 s 2. sit down, 1.6 s": 8, "1. sit down, 1.6 s": 12}[plan]
        assert 1 <= len(given) <= 4
        assert reply.codes == CODES["exact"][0][cut - len(given) :]
        assert caption.startswith("turn left") if cut == 8 else caption == "sit down"
        seen.add((cut, len(given)))
    assert seen == {(cut, length) for cut in (8, 12) for length in (1, 2, 3, 4)}


def test_one_beat_goes_on_from_anywhere_without_a_plan_and_guessed_beats_nowhere(writer: SampleWriter):
    writer = shared(writer, history_share=1.0, plan_share=1.0)
    cuts = set()
    for number in range(200):
        caption, reply, given = read(writer.of_clip(ONE_BEAT, np.random.default_rng(number), with_plan=True), writer)
        assert caption.rstrip(".") == "a person walks"
        # When a plan is written, nothing tells that most of the walk is done.
        assert reply.reasoning_ids is None
        assert reply.codes[-1] == 19
        cuts.add(reply.codes[0] + len(given))
        _, reply, given = read(writer.of_clip(GUESSED, np.random.default_rng(number), with_plan=True), writer)
        assert not given
        assert reply.codes == CODES["guessed"][0]
    # At least a second is left.
    assert cuts == set(range(1, 16))


def test_plans_and_captions_without_motion_come_after_the_first_steps(writer: SampleWriter, layout: TokenLayout):
    writer = shared(writer, plan_share=0.5, text_share=0.3)
    samples = TrainingSamples(writer, CLIPS, batch=4, batches=2, steps=40, seed=3)
    assert len(samples) == 320
    kinds: dict[str, list[int]] = {"motion": [], "plan": [], "text": []}
    for index in range(len(samples)):
        ids, labels = samples[index].input_ids, samples[index].labels
        first = next(place for place, label in enumerate(labels) if label != IGNORED)
        kind = "text" if layout.motion_open not in ids else "plan" if ids[first] == layout.think_open else "motion"
        kinds[kind].append(index)
    # Two steps of two batches of four.
    assert min(kinds["plan"] + kinds["text"]) >= 16
    assert set(range(16)) < set(kinds["motion"])
    later = len(samples) - 16
    assert len(kinds["text"]) / later == pytest.approx(0.3, abs=0.15)
    assert len(kinds["plan"]) / (later - len(kinds["text"])) == pytest.approx(0.5, abs=0.1)


def test_a_share_of_the_batches_are_compositions_however_few_there_are(writer: SampleWriter):
    clips = [ONE_BEAT, GUESSED, replace(EXACT, source=COMPOSED)]

    def composed(share: float | None) -> list[bool]:
        of_share = shared(writer, composed_share=share, text_share=0.0, vocabulary_steps=0, history_share=0.0)
        samples = TrainingSamples(of_share, clips, batch=4, batches=1, steps=200, seed=3)
        return [read(samples[index], of_share)[1].codes == CODES["exact"][0] for index in range(len(samples))]

    for share, expected in ((0.8, 0.8), (0.1, 0.1), (None, 1 / 3)):
        found = composed(share)
        assert np.mean(found) == pytest.approx(expected, abs=0.08)
        # A batch is of one kind.
        assert all(len(set(found[first : first + 4])) == 1 for first in range(0, 800, 4))
    with pytest.raises(ValueError, match="composed_share: expected recorded clips and compositions, got one kind"):
        TrainingSamples(shared(writer, composed_share=0.5), CLIPS, batch=4, batches=1, steps=4, seed=3)


def test_clips_of_the_same_plan_come_more_seldom_each(writer: SampleWriter):
    alike = [replace(ONE_BEAT, clip_id=f"one {number}") for number in range(4)]
    plans = [*PLANS, *(replace(PLANS[0], clip_id=clip.clip_id) for clip in alike)]
    codes = CODES | {clip.clip_id: [[number] * 20] for number, clip in enumerate(alike)}
    assert PLANS[0].clip_id == ONE_BEAT.clip_id
    # Five of one plan beside one that is alone.
    for balance, expected in ((0.0, 1 / 6), (0.5, 1 / (1 + 5 * 5**-0.5)), (1.0, 1 / 2)):
        shares = replace(writer.shares, balance=balance, text_share=0.0, history_share=0.0)
        of_all = SampleWriter(plans, codes, CODE_S, writer.tokenizer, writer.layout, shares)
        samples = TrainingSamples(of_all, [ONE_BEAT, *alike, EXACT], batch=1, batches=1, steps=800, seed=5)
        found = [read(samples[index], of_all)[1].codes == CODES["exact"][0] for index in range(len(samples))]
        assert np.mean(found) == pytest.approx(expected, abs=0.05)


def test_a_share_of_the_captions_without_motion_was_written_with_its_plan(writer: SampleWriter):
    said = replace(next(record for record in PLANS if record.clip_id is None), caption="a cat purrs", writer=WRITTEN)
    of_both = SampleWriter(
        [*PLANS, said], CODES, CODE_S, writer.tokenizer, writer.layout, replace(writer.shares, written_share=0.8)
    )

    def is_written(writer: SampleWriter, number: int) -> bool:
        return "purrs" in writer.tokenizer.decode(writer.of_text(np.random.default_rng(number)).input_ids)

    assert np.mean([is_written(of_both, number) for number in range(300)]) == pytest.approx(0.8, abs=0.07)
    # Where there are no others, all are.
    alone = SampleWriter([*PLANS[:3], said], CODES, CODE_S, writer.tokenizer, writer.layout, writer.shares)
    assert all(is_written(alone, number) for number in range(20))


def test_a_share_of_the_motions_is_asked_for_without_words_and_has_no_plan(writer: SampleWriter):
    wordless = shared(writer, wordless_share=0.4, plan_share=1.0, history_share=0.0)
    found = [
        read(wordless.of_clip(EXACT, np.random.default_rng(number), with_plan=True), wordless) for number in range(200)
    ]
    silent = [reply for caption, reply, _ in found if caption == WORDLESS]
    assert len(silent) == pytest.approx(80, abs=15)
    assert all(reply.reasoning_ids is None and reply.codes == CODES["exact"][0] for reply in silent)
    assert all(reply.reasoning_ids is not None for caption, reply, _ in found if caption != WORDLESS)


def test_a_sample_is_the_same_whenever_it_is_asked_for(writer: SampleWriter):
    samples = TrainingSamples(writer, CLIPS, batch=4, batches=1, steps=40, seed=3)
    assert samples[37] == samples[37]
    assert len({tuple(samples[index].input_ids) for index in range(40)}) > 12


def test_a_clip_without_a_plan_is_refused_by_name(writer: SampleWriter):
    writer.codes = CODES | {"other": [[1, 2]]}
    with pytest.raises(ValueError, match="no plan for 1 clips, other first; run build-reasoning again"):
        TrainingSamples(writer, [*CLIPS, replace(ONE_BEAT, clip_id="other")], batch=4, batches=1, steps=40, seed=3)


def test_clips_that_are_too_long_are_left_out_and_only_such_are_refused(writer: SampleWriter):
    writer = shared(writer, max_codes=19)
    for clips in (lambda: TrainingSamples(writer, CLIPS, 4, 1, 40, 3), lambda: HeldOutSamples(writer, CLIPS)):
        with pytest.raises(ValueError, match="none of 3 clips has 1 to 19 codes"):
            clips()


def test_held_out_samples_are_whole_replies_with_plans(writer: SampleWriter):
    samples = HeldOutSamples(writer, CLIPS)
    for clip, number in zip(CLIPS, range(len(samples)), strict=True):
        _, reply, given = read(samples[number], writer)
        assert not given
        assert reply.codes == CODES[clip.clip_id][0]
        assert reply.reasoning_ids
    # A model that learns no plans is not chosen by how well it foretells them.
    without = shared(writer, plan_share=0.0)
    assert [read(sample, without)[1].reasoning_ids for sample in HeldOutSamples(without, CLIPS).samples] == [None] * 3


@pytest.mark.parametrize("name", ["plan_share", "text_share", "history_share"])
def test_shares_go_from_0_to_1(name: str):
    for share in (-0.1, 1.5, float("nan")):
        wrong: dict[str, Any] = {name: share}
        with pytest.raises(ValueError, match=f"{name} goes from 0 to 1, got {share}"):
            SampleShares(**wrong)


def test_a_caption_that_is_only_text_ends_after_its_plan(
    writer: SampleWriter, sft_tokenizer: Tokenizer, layout: TokenLayout
):
    sample = writer.of_text(np.random.default_rng(1))
    first = sample.labels.index(layout.think_open)
    template = PromptTemplate(sft_tokenizer, PROMPT_TEMPLATE, layout)
    assert sample.input_ids[:first] in [template.ids(caption) for caption in ("a dog barks.", "a dog barks")]
    assert sft_tokenizer.decode(sample.input_ids[first + 1 : -1]) == "1. bark, 1.0 s"
    # How long it takes is not learned from it.
    assert sft_tokenizer.decode([label for label in sample.labels[first + 1 : -1] if label != IGNORED]) == "1. bark, s"
    assert sample.input_ids[-1] == layout.think_close
