from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from python_core.contract.vocabulary import CodebookSize, TokenLayout
from python_core.depth_head import DepthHead, DepthHeadShape
from python_core.language_model import LoraShape, merge_lora, with_lora
from python_core.motion_model import IGNORED, IMPOSSIBLE, SpeaksMotion, fold, load_motion_model, speak_motion

DEPTH = DepthHeadShape(width=16, layers=2, feed_forward=24)
SIZES = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def layout(num_levels: int) -> TokenLayout:
    return TokenLayout(
        think_open=16, think_close=17, motion_open=18, motion_close=19, first_code=20, level_size=8,
        num_levels=num_levels, turn_end=15, vocabulary_size=20 + 8 * num_levels,
    )  # fmt: skip


def speaks(num_levels: int) -> SpeaksMotion:
    torch.manual_seed(4)
    tokens = layout(num_levels)
    return speak_motion(LlamaForCausalLM(LlamaConfig(vocab_size=tokens.vocabulary_size, **SIZES)), tokens, DEPTH).eval()


def reply(num_levels: int, codes: list[int]) -> list[int]:
    tokens = layout(num_levels)
    return [1, 2, 3, tokens.motion_open, *(one for code in codes for one in tokens.code_ids(code)), tokens.motion_close]


def test_tokens_of_a_code_lie_at_one_position():
    tokens = layout(3)
    ids = reply(3, [5, 300])
    folded = fold(torch.tensor([ids, [15] * 8 + ids[:3]]), tokens.first_code, tokens.codebook)
    assert folded.input_ids[0].tolist() == [
        [1, -1, -1], [2, -1, -1], [3, -1, -1], [18, -1, -1], tokens.code_ids(5), tokens.code_ids(300), [19, -1, -1],
        *[[-1, -1, -1]] * 4,
    ]  # fmt: skip
    assert folded.input_ids[1, :, 0].tolist() == [15] * 8 + [1, 2, 3]
    assert folded.places[0].tolist() == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 6]
    assert folded.levels[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("num_levels", [1, 2, 6])
def test_the_engine_folds_as_the_model_does(num_levels: int):
    tokens, generator = layout(num_levels), torch.Generator().manual_seed(num_levels)
    ids: list[int] = []
    for word, code in torch.randint(0, 8, (60, 2), generator=generator).tolist():
        ids += [word] if word % 2 else tokens.code_ids(code % tokens.num_codes)
    folded = fold(torch.tensor([ids]), tokens.first_code, tokens.codebook)
    assert [list(position) for position in tokens.fold(ids)] == folded.input_ids[0].tolist()


def test_padding_and_the_beginnings_of_samples_are_folded_with_their_tokens():
    tokens = layout(2)
    ids = [[15, 15, 1, *tokens.code_ids(9), 2, *tokens.code_ids(60)], [1, *tokens.code_ids(9), 2, 3, 4, 5, 6]]
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0]])
    positions = torch.tensor([[0, 0, 0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 0, 1, 0]])
    folded = fold(torch.tensor(ids), tokens.first_code, tokens.codebook, mask, positions)
    assert folded.attention_mask is not None
    assert folded.position_ids is not None
    assert folded.attention_mask.tolist() == [[0, 0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 0]]
    assert folded.position_ids.tolist() == [[0, 0, 0, 1, 0, 1, 0], [0, 1, 2, 3, 0, 1, 0]]


@torch.no_grad()
def test_with_one_level_it_is_the_plain_model():
    model = speaks(1)
    ids = torch.tensor([reply(1, [3, 7, 0])])
    plain = LlamaForCausalLM(model.config).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert float(model(input_ids=ids, labels=ids).loss) == pytest.approx(float(plain(input_ids=ids, labels=ids).loss))


@torch.no_grad()
def test_logits_of_each_token_depend_on_the_tokens_before_it_and_on_no_other():
    model, tokens = speaks(3), layout(3)
    ids = reply(3, [5, 300, 77])
    logits = model(input_ids=torch.tensor([ids])).logits[0]
    for place in range(1, len(ids)):
        changed = list(ids)
        base = (changed[place] - 20) // 8 * 8 + 20 if changed[place] >= 20 else 0
        changed[place] = base + (changed[place] - base + 1) % 8
        others = model(input_ids=torch.tensor([changed])).logits[0]
        torch.testing.assert_close(others[:place], logits[:place])
        assert not torch.allclose(others[place], logits[place])
    # After a first level only the second can come.
    possible = logits[4] > IMPOSSIBLE / 2
    assert torch.nonzero(possible)[:, 0].tolist() == [*range(tokens.first_code + 8, tokens.first_code + 16)]


@torch.no_grad()
def test_scores_are_those_of_the_logits_at_any_temperature_and_labels_alone_count():
    model = speaks(3)
    ids = torch.tensor([reply(3, [5, 300, 77]), [15, *reply(3, [1, 2]), *layout(3).code_ids(8)[:2]]])
    labels = ids.clone()
    labels[0, :5] = IGNORED
    labels[0, 9] = IGNORED
    labels[1, :9] = IGNORED
    choices = (model(input_ids=ids).logits / 0.7).log_softmax(-1)
    wanted = choices[:, :-1].gather(-1, ids[:, 1:, None])[..., 0].masked_fill(labels[:, 1:] == IGNORED, 0)
    spread = -(choices.exp() * choices).sum(-1)[:, :-1].masked_fill(labels[:, 1:] == IGNORED, 0)
    output = model(input_ids=ids, labels=labels, temperature=0.7, scores=True, entropies=True)
    torch.testing.assert_close(output.log_probs[:, 1:], wanted)
    torch.testing.assert_close(output.entropy[:, 1:], spread)
    assert model(input_ids=ids, labels=labels, temperature=0.7, scores=True).entropy is None
    number = int((labels != IGNORED).sum())
    assert float(output.loss) == pytest.approx(float(-wanted.sum() / number))
    halved = model(input_ids=ids, labels=labels, temperature=0.7, num_items_in_batch=2 * number).loss
    assert float(halved) == pytest.approx(float(output.loss) / 2)
    weights = torch.rand(ids.shape)
    weighted = model(input_ids=ids, labels=labels, temperature=0.7, weights=weights).loss
    assert float(weighted) == pytest.approx(float(-(wanted * weights[:, 1:]).sum() / number))
    hits = model(input_ids=ids, labels=labels).hits
    likeliest = (choices[:, :-1].argmax(-1) == ids[:, 1:]).long().masked_fill(labels[:, 1:] == IGNORED, IGNORED)
    assert hits[:, 1:].tolist() == likeliest.tolist()


@torch.no_grad()
def test_what_is_read_instead_changes_what_follows_and_not_the_levels_of_the_code_itself():
    model = speaks(3)
    ids = torch.tensor([reply(3, [5, 300, 77])])
    read = torch.tensor([reply(3, [5, 40, 77])])
    scored = model(input_ids=ids, labels=ids, scores=True).log_probs
    torch.testing.assert_close(model(input_ids=ids, labels=ids, read_ids=ids, scores=True).log_probs, scored)
    other = model(input_ids=ids, labels=ids, read_ids=read, scores=True).log_probs
    (changed,) = torch.nonzero(ids[0] != read[0], as_tuple=True)
    code_ends = int(changed[-1]) + 1
    torch.testing.assert_close(other[:, :code_ends], scored[:, :code_ends])
    assert not torch.isclose(other[:, code_ends:], scored[:, code_ends:]).any()


@torch.no_grad()
def test_levels_that_are_not_read_tell_nothing_and_their_rows_are_zero():
    model, tokens = speaks(3), layout(3)
    ids = torch.tensor([reply(3, [5, 300, 77])])
    levels = fold(ids, tokens.first_code, tokens.codebook).levels
    # The next entry of each later level.
    first_ids = tokens.first_code + levels * tokens.level_size
    other = torch.where(levels > 0, first_ids + (ids - first_ids + 1) % tokens.level_size, ids)

    def scored(read: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, labels=ids, read_ids=read, scores=True).log_probs

    assert not torch.isclose(scored(ids), scored(other)).all()
    model.read_first_levels(1)
    torch.testing.assert_close(scored(ids), scored(other))
    # The sum of all tokens of a code, which exported graphs read, is the same.
    found = scored(ids)
    model.config.motion_codes.pop("read_levels")
    torch.testing.assert_close(scored(ids), found)
    # Its own head and the depth head have rows of their own for what they say.
    model.read_first_levels(1)
    weight = model.get_input_embeddings().get_parameter("weight")
    spoken = tokens.first_code + tokens.level_size
    assert not weight[spoken:].any()
    assert weight[:spoken].any(dim=1).all()
    for num in (0, 4):
        with pytest.raises(ValueError, match=f"read_levels goes from 1 to the 3 levels of a code, got {num}"):
            model.read_first_levels(num)


@torch.no_grad()
def test_a_depth_head_says_the_same_of_the_last_level_alone():
    torch.manual_seed(1)
    head = DepthHead(24, CodebookSize(8, 4), DEPTH)
    states, entries = torch.randn(5, 24), torch.randint(8, (5, 3))
    whole = head(states, entries)
    assert whole.shape == (5, 3, 8)
    for num in (1, 2, 3):
        torch.testing.assert_close(head(states, entries[:, :num], last=True)[:, 0], whole[:, num - 1])
    # What was spoken counts as a whole: it is the sum.
    assert not torch.allclose(head(states, entries.roll(1, 0))[:, 2], whole[:, 2])


def greedy(model: SpeaksMotion, prompt: list[int], num_codes: int) -> list[int]:
    ids = list(prompt)
    for _ in range(num_codes * model.codebook.num_levels):
        following = model(input_ids=torch.tensor([ids])).logits[0, -1]
        of_code = len(ids[len(prompt) :]) % model.codebook.num_levels
        start = 20 + of_code * 8
        ids.append(start + int(following[start : start + 8].argmax()))
    return ids[len(prompt) :]


def test_it_learns_what_later_levels_follow_from(tmp_path: Path):
    """Each level is a function of the first and of the code before, so a model without either could not learn it."""
    model = speaks(3).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    codes = [[1, 2, 3], [2, 5, 1], [3, 7, 6], [4, 1, 0]]
    series = [torch.tensor([[first, 18, *_tokens(codes[first]), *_tokens(codes[3 - first]), 19]]) for first in range(4)]
    ids = torch.cat(series)
    for _ in range(150):
        loss = model(input_ids=ids, labels=ids.masked_fill(ids < 18, IGNORED)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02
    model.eval().save_pretrained(tmp_path)
    again = load_motion_model(tmp_path)
    with torch.no_grad():
        for first in range(4):
            assert greedy(again, [first, 18], 2) == _tokens(codes[first]) + _tokens(codes[3 - first])


def _tokens(entries: list[int]) -> list[int]:
    return [20 + level * 8 + entry for level, entry in enumerate(entries)]


def test_an_adapter_trains_the_depth_head_whole_and_merges_to_the_same_scores():
    model, tokens = speaks(3), layout(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.tensor([reply(3, [5, 300, 77])])
    adapted: torch.nn.Module = with_lora(
        model, LoraShape(rank=2, dropout=0.0), range(tokens.think_open, tokens.vocabulary_size)
    )
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        loss = adapted(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = adapted.eval()(input_ids=ids).logits
    merged = merge_lora(adapted)
    assert isinstance(merged, SpeaksMotion)
    torch.testing.assert_close(merged(input_ids=ids).logits, trained, atol=1e-4, rtol=1e-4)
    after = merged.state_dict()
    assert before.keys() == after.keys()
    assert (after["depth_head.heads"] - before["depth_head.heads"]).abs().max() > 0.01


def test_any_causal_model_can_speak_motion_and_is_read_back_as_it_was(tmp_path: Path):
    tokens = layout(2)
    torch.manual_seed(1)
    model = speak_motion(Qwen2ForCausalLM(Qwen2Config(vocab_size=tokens.vocabulary_size, **SIZES)), tokens, DEPTH)
    model.eval().save_pretrained(tmp_path)
    again = load_motion_model(tmp_path)
    assert isinstance(again, Qwen2ForCausalLM)
    ids: Tensor = torch.tensor([reply(2, [5, 30])])
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_model_that_speaks_no_codes_is_refused(tmp_path: Path):
    LlamaForCausalLM(LlamaConfig(vocab_size=32, **SIZES)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no motion_codes, so no model of train-sft or train-grpo"):
        load_motion_model(tmp_path)


def test_a_model_that_lacks_weights_of_its_depth_head_is_refused(tmp_path: Path):
    speaks(2).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if not name.startswith("depth_head.")}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ weights, depth_head\.entries\.weight first"):
        load_motion_model(tmp_path)


@pytest.mark.parametrize("name", ["width", "layers", "feed_forward"])
def test_a_depth_head_without_size_is_refused(name: str):
    with pytest.raises(ValueError, match=rf"depth\.{name} must be at least 1, got 0"):
        DepthHeadShape(**{name: 0})
