import json
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer

from python_core.contract.vocabulary import CodebookSize, Place, TokenLayout
from python_core.depth_head import DepthHeadShape
from python_core.evaluation.generation import Prompt, Sampling, generate, read_reply
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


def test_without_reasoning_a_reply_begins_with_its_motion(spoken: Spoken):
    for reply in generate(*spoken, PROMPTS, Sampling(constrained=True, reasoning=False, max_codes=6), seed=1):
        assert reply.parsed is not None
        assert reply.parsed.reasoning_ids is None
        assert reply.token_ids[0] == spoken[2].motion_open


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


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.0), ("top_p", 0.0), ("top_p", 1.5), ("max_codes", 0)])
def test_sampling_that_cannot_be_is_refused(field: str, value: float):
    with pytest.raises(ValueError, match=f"{field} must be"):
        replace(Sampling(), **{field: value})


def test_replies_go_on_where_a_killed_run_was_and_are_the_same(spoken, tmp_path):
    model, tokenizer, layout = spoken
    sampling = Sampling(constrained=True, max_codes=4)
    speaker = Speaker(model=model, tokenizer=tokenizer, layout=layout, sampling=sampling, batch=2)
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
