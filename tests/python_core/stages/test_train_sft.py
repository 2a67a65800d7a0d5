import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from python_core.checkpoint import load_language_model, load_vqvae
from python_core.clips.prepared import read_prepared
from python_core.contract.plan import parse_plan
from python_core.contract.vocabulary import TURN_END, TURN_START, TokenLayout, parse_reply
from python_core.language_model import LoraShape, token_layout
from python_core.motion_tokenizer import MotionTokenizer
from python_core.stages import train_sft
from python_core.stages.build_reasoning import PlanRecord, read_plans
from python_core.stages.train_sft import IGNORED, PRESETS, MetricsFile, Samples, _encode, _pad


@pytest.fixture(scope="module")
def spoken(tiny_checkpoint: Path) -> tuple[Tokenizer, TokenLayout]:
    tokenizer = load_language_model(tiny_checkpoint).tokenizer
    return tokenizer, token_layout(tokenizer, load_vqvae(tiny_checkpoint / "vqvae")[0].shape.codebook)


@pytest.fixture(scope="module")
def samples(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, spoken: tuple[Tokenizer, TokenLayout]
) -> Samples:
    prepared = read_prepared(prepared_folder)
    plans = [*read_plans(tiny_plans), PlanRecord(None, "a dog barks", 1.0, "1. bark, 1.0 s", "planner")]
    return Samples(
        prepared, _encode(prepared, "train", MotionTokenizer.load(tiny_vqvae), 2), plans, *spoken, PRESETS["tiny"]
    )


def test_only_the_reply_is_scored_and_it_is_a_reply(samples: Samples, spoken: tuple[Tokenizer, TokenLayout]):
    tokenizer, layout = spoken
    kinds = set()
    for index in range(60):
        sample = samples[index]
        first = sample["labels"].index(next(label for label in sample["labels"] if label != IGNORED))
        assert sample["labels"][:first] == [IGNORED] * first
        assert sample["labels"][first:] == sample["input_ids"][first:]
        assert tokenizer.decode(sample["input_ids"][:first]).endswith("assistant\n")
        reply = sample["input_ids"][first:]
        if reply[-1] == layout.think_close:
            kinds.add("plan only")
            continue
        parsed = parse_reply(reply, layout)
        kinds.add("no plan" if parsed.reasoning_ids is None else "plan")
        if parsed.reasoning_ids is not None:
            assert 1 <= len(parse_plan(tokenizer.decode(parsed.reasoning_ids)).beats) <= 5
    assert kinds == {"plan only", "no plan", "plan"}


def test_a_sample_is_the_same_whenever_it_is_asked_for(samples: Samples):
    assert samples[7] == samples[7]
    assert any(samples[7] != samples[index] for index in range(8, 20))


def test_padding_is_neither_read_nor_scored():
    batch = _pad([{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4], "labels": [4]}], filler=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["labels"].tolist() == [[-100, 2, 3], [4, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_training_lowers_the_loss_and_notes_where_the_data_comes_from(tiny_checkpoint: Path):
    lines = [json.loads(line) for line in (tiny_checkpoint / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert load_language_model(tiny_checkpoint).data_notice == "made: 8 clips; CC0-1.0"


@pytest.fixture(scope="module")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained model as it comes from elsewhere: in Hugging Face's layout, without motion tokens."""
    folder = tmp_path_factory.mktemp("backbone")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=[TURN_START, TURN_END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    size = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(size).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_killed_run_goes_on_with_the_same_numbers(
    pretrained: bool,
    tiny_backbone: Path,
    prepared_folder: Path,
    tiny_vqvae: Path,
    tiny_plans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    config = replace(
        PRESETS["tiny"], prepared=prepared_folder, vqvae=tiny_vqvae, plans=tiny_plans, steps=8, save_every=4
    )
    if pretrained:
        config = replace(config, backbone=tiny_backbone, lora=LoraShape(rank=2))
    train_sft.run(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "on_save", _kill)
        with pytest.raises(KeyboardInterrupt):
            train_sft.run(replace(config, out=tmp_path / "stopped"))
    train_sft.run(replace(config, out=tmp_path / "stopped"))
    expected, actual = (load_language_model(tmp_path / name).model.state_dict() for name in ("straight", "stopped"))
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name


def _kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_clip_without_a_plan_is_refused(prepared_folder: Path, tiny_vqvae: Path, tmp_path: Path):
    plans = tmp_path / "plans.jsonl"
    plans.write_text('{"clip_id": null, "caption": "a", "duration_s": 1.0, "plan": "1. a, 1.0 s", "writer": "x"}\n')
    config = replace(PRESETS["tiny"], prepared=prepared_folder, vqvae=tiny_vqvae, plans=plans, out=tmp_path / "out")
    with pytest.raises(ValueError, match="no plan for 8 clips"):
        train_sft.run(config)
