import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bridge.reply import Reply as ServedReply
from bridge.reply import Stop
from bridge.request import History, MotionRequest
from python_core.checkpoint import load_language_model
from python_core.contract.plan import MOST_PLANS, Plan, PlanError, parse_plan, reasoning_text
from python_core.contract.vocabulary import CodebookSize, Place, TokenLayout
from python_core.depth_head import DepthHeadShape
from python_core.evaluation import generation
from python_core.evaluation.generation import Prompt, Reply, Sampling, generate, read_reply
from python_core.evaluation.reply_file import Speaker
from python_core.language_model import LanguageModelShape, new_language_model, token_layout, train_text_tokenizer
from python_core.motion_model import SpeaksMotion

CODEBOOK = CodebookSize(8, 2)
SHAPE = LanguageModelShape(text_tokens=300, width=32, layers=1, heads=2, feed_forward=32, max_tokens=256)
DEPTH = DepthHeadShape(width=16, layers=1, feed_forward=16)
PROMPTS = [Prompt("a person walks"), Prompt("someone waves the right hand, then sits down"), Prompt("kick")]

Spoken = tuple[SpeaksMotion, Tokenizer, TokenLayout]


@pytest.fixture(scope="module")
def spoken() -> Spoken:
    """A model that has learned nothing."""
    tokenizer = train_text_tokenizer(["a person walks and waves"], SHAPE.text_tokens, CODEBOOK)
    layout = token_layout(tokenizer, CODEBOOK)
    torch.manual_seed(1)
    return new_language_model(SHAPE, DEPTH, layout).eval(), tokenizer, layout


def test_under_the_grammar_every_reply_is_well_formed_even_of_a_model_that_has_learned_nothing(spoken: Spoken):
    replies = generate(*spoken, PROMPTS, Sampling(constrained=True, max_codes=6), seed=1)
    assert [reply.error for reply in replies] == ["", "", ""]
    for reply in replies:
        assert reply.parsed is not None
        assert reply.parsed.place is Place.DONE
        assert reply.parsed.reasoning_ids is not None
        assert 1 <= len(reply.codes) <= 6
        assert reply.token_ids[-1] == spoken[2].turn_end


def test_free_of_it_next_to_none_is_and_the_reply_ends_where_it_breaks(spoken: Spoken):
    replies = generate(*spoken, PROMPTS, Sampling(max_codes=6), seed=1)
    for reply in replies:
        assert reply.parsed is None
        assert reply.codes == []
        assert "expected" in reply.error
        assert len(reply.token_ids) < 100


def test_the_same_seed_gives_the_same_replies_and_leaves_the_random_state_alone(spoken: Spoken):
    sampling = Sampling(constrained=True, max_codes=6)
    state = torch.get_rng_state()
    first, again = (generate(*spoken, PROMPTS, sampling, seed=3) for _ in range(2))
    other = generate(*spoken, PROMPTS, sampling, seed=4)
    assert [reply.token_ids for reply in first] == [reply.token_ids for reply in again]
    assert [reply.token_ids for reply in first] != [reply.token_ids for reply in other]
    assert torch.equal(state, torch.get_rng_state())


def test_at_temperature_0_the_likeliest_tokens_are_taken_whatever_the_seed(spoken: Spoken):
    coldest = Sampling(temperature=0.0, constrained=True, max_codes=6)
    replies = [generate(*spoken, PROMPTS, coldest, seed=seed) for seed in (1, 2)]
    assert [reply.token_ids for reply in replies[0]] == [reply.token_ids for reply in replies[1]]
    cold = generate(*spoken, PROMPTS, replace(coldest, temperature=1e-6), seed=3)
    assert [reply.token_ids for reply in replies[0]] == [reply.token_ids for reply in cold]


def test_without_reasoning_a_reply_begins_with_its_motion(spoken: Spoken):
    for reply in generate(*spoken, PROMPTS, Sampling(constrained=True, reasoning=False, max_codes=6), seed=1):
        assert reply.parsed is not None
        assert reply.parsed.reasoning_ids is None
        assert reply.token_ids[0] == spoken[2].motion_open


CODE_S = 0.2
SERVED = Sampling(temperature=1.2, constrained=True, max_codes=14)


def plan_of(reply: Reply, tokenizer: Tokenizer) -> Plan | None:
    assert reply.parsed is not None
    try:
        return parse_plan(reasoning_text(tokenizer, reply.parsed.reasoning_ids or []))
    except PlanError:
        return None


def serve(reply: Reply, prompt: Prompt, layout: TokenLayout, tokenizer: Tokenizer) -> tuple[list[int], Stop, list[int]]:
    """Let the bridge take a reply, position by position: its codes, why it ends, and the tokens that are left then."""
    request = MotionRequest(
        prompt=prompt.text, seed=1, reasoning=True, max_codes=SERVED.max_codes, temperature=1.0, top_p=1.0,
        history=History(prompt.history) if prompt.history else None,
    )  # fmt: skip
    served = ServedReply(request, [], layout, tokenizer, CODE_S, lambda planned: None)
    positions, codes, forced = layout.fold(reply.token_ids[1:]), [], 0
    for number, position in enumerate(positions):
        if forced:
            forced -= 1
            continue
        assert any(position[0] in ids for ids in served.allowed()), f"position {number}"
        code, following = served.take([token_id for token_id in position if token_id >= 0])
        codes += [] if code is None else [code]
        if served.stop is not None:
            return codes, served.stop, [token for one in positions[number + 1 :] for token in one if token >= 0]
        forced = len(following) - 1
    raise AssertionError("the bridge would go on")


def test_under_the_grammar_plans_and_motions_are_those_that_the_bridge_would_serve(tiny_checkpoint: Path):
    loaded = load_language_model(tiny_checkpoint)
    tokenizer, layout = loaded.tokenizer, token_layout(loaded.tokenizer, loaded.model.codebook)
    captions = ("a person walks forward.", "someone does a squat", "a person waves the right hand.")
    prompts = [Prompt(caption, history) for caption in captions for history in ((), (5, 63, 0)) for _ in range(5)]
    by_grammar, served = (
        generate(loaded.model, tokenizer, layout, prompts, SERVED, 3, code_s) for code_s in (None, CODE_S)
    )
    served = [(prompt, reply) for prompt, reply in zip(prompts, served, strict=True) if reply.parsed is not None]
    # So hot, the model writes many a plan that is none.
    num_planned = sum(plan_of(reply, tokenizer) is not None for reply in by_grammar)
    assert num_planned < len(served) - 2
    stops = set()
    for prompt, reply in served:
        assert plan_of(reply, tokenizer) is not None
        codes, stop, left = serve(reply, prompt, layout, tokenizer)
        assert codes == reply.codes
        closed = [] if stop is Stop.MODEL else [layout.motion_close]
        assert left == [*closed, layout.turn_end]
        stops.add(stop)
    assert Stop.PLAN_DURATION in stops


def test_reasoning_that_is_never_a_plan_is_drawn_as_often_as_the_bridge_draws_it_and_is_no_motion(
    spoken: Spoken, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[int] = []
    sample = generation.sample_replies
    monkeypatch.setattr(generation, "sample_replies", lambda *asked: (drawn.append(len(asked[1])), sample(*asked))[1])
    for reply in generate(*spoken, PROMPTS, Sampling(constrained=True, max_codes=6), 1, CODE_S):
        assert reply.parsed is None
        assert reply.codes == []
        assert reply.token_ids[-2:] == (spoken[2].think_close, spoken[2].turn_end)
    assert drawn == [len(PROMPTS)] * MOST_PLANS


def test_a_motion_begins_with_its_history_and_the_codes_are_what_comes_after(spoken: Spoken):
    prompts = [Prompt("walk", (5, 63, 0)), Prompt("sit")]
    replies = generate(*spoken, prompts, Sampling(constrained=True, max_codes=4), seed=2)
    first, second = (reply.parsed for reply in replies)
    assert first is not None
    assert second is not None
    assert first.codes[:3] == [5, 63, 0]
    assert replies[0].codes == first.codes[3:]
    assert 1 <= len(replies[0].codes) <= 4
    assert replies[1].codes == second.codes


def test_a_reply_of_history_alone_is_malformed(spoken: Spoken):
    layout = spoken[2]
    ids = layout.reply_ids(None, [5, 6])
    assert read_reply(ids, layout, 1).codes == [6]
    assert "expected codes of its own" in read_reply(ids, layout, 2).error


def test_what_does_not_fit_the_model_is_refused(spoken: Spoken):
    with pytest.raises(ValueError, match=r"do not fit a model of 256; lower max_codes, now 200"):
        generate(*spoken, PROMPTS, Sampling(max_codes=200), seed=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("depth_temperature", float("nan")),
        ("reasoning_temperature", -1.0),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("max_codes", 0),
    ],
)
def test_sampling_that_cannot_be_is_refused(field: str, value: float):
    with pytest.raises(ValueError, match=f"{field} must be"):
        replace(Sampling(), **{field: value})


def test_replies_go_on_where_a_killed_run_was_and_are_the_same(spoken, tmp_path):
    model, tokenizer, layout = spoken
    sampling = Sampling(constrained=True, reasoning=False, max_codes=4)
    speaker = Speaker(model=model, tokenizer=tokenizer, layout=layout, sampling=sampling, batch=2, code_s=CODE_S)
    prompts = [*PROMPTS, *PROMPTS]
    path = tmp_path / "replies.jsonl"
    whole = speaker.reply(path, prompts, [1, 0])
    written = path.read_text()
    assert len(written.splitlines()) == 6
    # Killed within the second batch, in the middle of a line.
    lines = written.splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:10])
    again = speaker.reply(path, prompts, [1, 0])
    assert path.read_text() == written
    assert [reply.token_ids for reply in again] == [reply.token_ids for reply in whole]
    assert json.loads(lines[0])["prompt"] == "a person walks"
    with pytest.raises(ValueError, match="reply 0 is to 'a person walks', expected one to 'kick'; remove"):
        speaker.reply(path, prompts[::-1], [1, 0])
