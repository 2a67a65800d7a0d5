import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import EvalPrediction, LlamaConfig, LlamaForCausalLM

from python_core.checkpoint import load_language_model
from python_core.clips.cmu import CREDIT
from python_core.clips.prepared import read_prepared
from python_core.contract.vocabulary import TURN_END, TURN_START
from python_core.depth_head import DepthHeadShape
from python_core.evaluators.token_states import load_token_states
from python_core.language_model import LanguageModelShape, LoraShape, token_layout
from python_core.metrics_file import MetricsFile
from python_core.sft.early_stop import ACCURACY
from python_core.sft.samples import IGNORED
from python_core.stages import train_sft
from python_core.stages.train_sft import PRESETS
from python_core.word_rows import word_rows

RECORDED = Path(__file__).parents[2] / "recorded" / "train_sft.json"
"""Losses of the runs of `test_a_killed_run_goes_on_with_the_same_numbers`, as they were when they were recorded."""


def test_training_lowers_the_loss_and_notes_where_the_data_comes_from(tiny_checkpoint: Path):
    found = list(losses(tiny_checkpoint).values())
    assert found[-1] < 0.5 * found[0]
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


def test_a_notice_names_each_source_and_counts_what_was_composed_of_them(prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    train = prepared.split("train")
    both = [replace(clip, source="composed", licence=f"{clip.licence}; CC BY 4.0") for clip in train[:3]]
    more = replace(prepared, clips=(*prepared.clips, *both))
    assert train_sft.data_notice(more) == "made: 8 clips; CC0-1.0\ncomposed: 3 clips, made of these"
    of_cmu = replace(prepared, clips=tuple(replace(clip, source="cmu") for clip in prepared.clips))
    assert train_sft.data_notice(of_cmu) == f"cmu: 8 clips; CC0-1.0\n{CREDIT}"


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
        PRESETS["tiny"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        steps=8,
        save_every=4,
        vocabulary_steps=2,
        history_share=0.3,
    )
    if pretrained:
        config = replace(config, backbone=str(tiny_backbone), lora=LoraShape(rank=2))
    train_sft.run(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "on_save", _kill)
        with pytest.raises(KeyboardInterrupt):
            train_sft.run(replace(config, out=tmp_path / "stopped"))
    if pretrained:
        # The backbone may lie elsewhere.
        config = replace(config, backbone=str(shutil.copytree(tiny_backbone, tmp_path / "backbone")))
    train_sft.run(replace(config, out=tmp_path / "stopped"))
    straight, stopped = (losses(tmp_path / name) for name in ("straight", "stopped"))
    assert straight == stopped
    recorded = json.loads(RECORDED.read_text())["lora on a backbone" if pretrained else "from scratch"]
    # Processors round in other places, and a code may fall the other way.
    assert list(straight.values()) == pytest.approx(recorded, rel=0.005)
    expected, actual = (load_language_model(tmp_path / name).model.state_dict() for name in ("straight", "stopped"))
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    if pretrained:
        # A checkpoint has the adapter, the new rows and the depth head, and none of the backbone's weights.
        saved = load_file(tmp_path / "straight" / "training" / "checkpoint-8" / "adapter_model.safetensors")
        num_words = load_language_model(tmp_path / "straight").model.config.vocab_size
        assert all(len(value) < num_words for value in saved.values() if value.ndim)
        # But it is not another.
        path = tmp_path / "backbone" / "model.safetensors"
        save_file({name: value * 2 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"holds a run with another backbone/model\.safetensors"):
            train_sft.run(replace(config, out=tmp_path / "stopped"))


def test_a_run_in_slices_ends_in_the_weights_of_one_in_one_go_and_carries_one_small_checkpoint(
    tiny_backbone: Path, prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, tmp_path: Path
):
    config = replace(
        PRESETS["tiny"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        backbone=str(tiny_backbone),
        lora=LoraShape(rank=2),
        optimizer="adafactor",
        steps=3,
        vocabulary_steps=1,
    )
    train_sft.run(replace(config, out=tmp_path / "straight"))
    out = tmp_path / "slices"
    for step in (1, 2, 3):
        assert not (out / "checkpoint.json").exists()
        # Each run is over after its first step.
        train_sft.run(replace(config, out=out, stop_after_s=0.0))
        assert [path.name for path in (out / "training").glob("checkpoint-*")] == [f"checkpoint-{step}"]
    expected, actual = (load_language_model(tmp_path / name).model.state_dict() for name in ("straight", "slices"))
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    assert losses(tmp_path / "straight") == losses(out)
    # Adafactor keeps rows and columns of a matrix.
    kept = torch.load(out / "training" / "checkpoint-3" / "optimizer.pt")["state"].values()
    matrices = [state for state in kept if "exp_avg_sq_row" in state]
    assert len(matrices) > 0.5 * len(kept)
    assert not any({"exp_avg", "exp_avg_sq"} & state.keys() for state in matrices)


def test_fixed_rows_do_not_go_with_weights_in_parts_and_leave_no_run_behind(
    prepared_folder: Path,
    tiny_vqvae: Path,
    tiny_plans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    config = replace(
        PRESETS["tiny"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        out=tmp_path / "sft",
        text_encoder=tmp_path,
    )
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"text_encoder: .*; use DDP"):
        train_sft.run(config)
    assert not config.out.exists()


def test_a_backbone_that_is_not_there_leaves_no_run_behind(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, tmp_path: Path
):
    config = replace(
        PRESETS["tiny"], prepared=prepared_folder, vqvae=tiny_vqvae, plans=tiny_plans, out=tmp_path / "sft"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no tokenizer\.json; get a backbone"):
        train_sft.run(replace(config, backbone=str(tmp_path / "empty")))
    assert not config.out.exists()


def test_a_checkpoint_learns_on_with_its_words_and_speaks_no_codes_of_another_codebook(
    tiny_checkpoint: Path,
    prepared_folder: Path,
    tiny_vqvae: Path,
    tiny_plans: Path,
    text_encoder: Path,
    tmp_path: Path,
):
    config = replace(
        PRESETS["tiny"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        start=tiny_checkpoint,
        steps=4,
        vocabulary_steps=0,
        learning_rate=1e-4,
        # A model has sizes of its own.
        shape=LanguageModelShape(width=96),
        depth=DepthHeadShape(width=48),
        out=tmp_path / "on",
    )
    train_sft.run(config)
    before, after = load_language_model(tiny_checkpoint), load_language_model(config.out)
    assert after.tokenizer.to_str() == before.tokenizer.to_str()
    noted = json.loads((config.out / "checkpoint.json").read_text())["training"]
    num_words = token_layout(before.tokenizer, before.model.codebook).think_open
    assert noted["shape"] == asdict(PRESETS["tiny"].shape) | {"text_tokens": num_words}
    assert noted["depth"] == asdict(PRESETS["tiny"].depth)
    # It knows its clips.
    assert np.mean([*losses(config.out).values()]) < 1.5 * min(losses(tiny_checkpoint).values())
    moved = [bool((a != b).any()) for a, b in zip(after.model.parameters(), before.model.parameters(), strict=True)]
    assert all(moved)
    # With a text encoder words stay as they were learned.
    train_sft.run(replace(config, text_encoder=text_encoder, out=tmp_path / "fixed"))
    fixed = load_language_model(tmp_path / "fixed")
    words = [one.model.get_input_embeddings().get_parameter("weight") for one in (before, fixed)]
    assert torch.equal(words[0][:num_words], words[1][:num_words])
    assert not torch.equal(words[0][num_words:], words[1][num_words:])
    other = shutil.copytree(tiny_vqvae, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["levels.1.vectors"] = weights["levels.1.vectors"].flip(0)
    save_file(weights, other / "model.safetensors")
    with pytest.raises(ValueError, match=r"whose codebook is not that of .*other; give --vqvae"):
        train_sft.run(replace(config, vqvae=other, out=tmp_path / "refused"))
    assert not (tmp_path / "refused").exists()
    # Unless it is to learn them, of which it knows a good part from the beginning.
    train_sft.run(replace(config, vqvae=other, new_codes=True, out=tmp_path / "new"))
    assert max(losses(tmp_path / "new").values()) < 0.5 * max(losses(tiny_checkpoint).values())
    with pytest.raises(ValueError, match="new_codes is for a model that speaks others; give start"):
        replace(config, start=None, new_codes=True)
    with pytest.raises(ValueError, match="start has a model of its own"):
        replace(PRESETS["small"], start=tiny_checkpoint)


def test_clips_whose_codes_are_there_need_no_features(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, tmp_path: Path
):
    """As on a borrowed machine: codes are small, features are not."""
    light = tmp_path / "prepared"
    shutil.copytree(prepared_folder, light, ignore=shutil.ignore_patterns("features.npy"))
    config = replace(PRESETS["tiny"], prepared=light, vqvae=tiny_vqvae, plans=tiny_plans, steps=2, out=tmp_path / "sft")
    with pytest.raises(ValueError, match=r"its features are not here; copy features\.npy"):
        train_sft.run(config)
    codes = {clip.clip_id: [[1, 2, 3, 4, 5, 6]] for clip in read_prepared(light).split("train")}
    (config.out / "codes.jsonl").write_text("".join(f"{json.dumps([*item])}\n" for item in codes.items()))
    train_sft.run(config)
    assert set(losses(config.out)) == {1, 2}


def test_rows_of_words_stay_where_the_text_encoder_puts_them_while_all_others_learn(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, text_encoder: Path, tmp_path: Path
):
    config = replace(
        PRESETS["tiny"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        out=tmp_path / "sft",
        text_encoder=text_encoder,
        steps=6,
        save_every=3,
    )
    train_sft.run(config)
    checkpoint = load_language_model(config.out)
    learned = checkpoint.model.get_input_embeddings().get_parameter("weight")
    first_new = token_layout(checkpoint.tokenizer, checkpoint.model.codebook).think_open
    encoder = load_token_states(text_encoder, torch.device("cpu"))
    expected = word_rows(checkpoint.tokenizer, first_new, encoder, config.shape.width, config.seed)
    assert torch.equal(learned[:first_new], expected)
    found = losses(config.out)
    assert found[max(found)] < found[min(found)]
    # From the checkpoint of step 3 on, the same.
    shutil.rmtree(config.out / "training" / "checkpoint-6")
    (config.out / "checkpoint.json").unlink()
    weights = load_file(config.out / "language_model" / "model.safetensors")
    train_sft.run(config)
    again = load_file(config.out / "language_model" / "model.safetensors")
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert losses(config.out) == found


def test_a_text_encoder_is_refused_beside_a_backbone():
    with pytest.raises(ValueError, match="text_encoder is for a model from scratch"):
        replace(PRESETS["small"], text_encoder=Path("somewhere"))


def losses(out: Path) -> dict[int, float]:
    """The losses that a run logged, by step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def _kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_weights_that_foretell_held_out_replies_best_are_kept_and_training_ends_when_it_gets_no_better(
    prepared_folder: Path, tiny_vqvae: Path, tiny_plans: Path, tmp_path: Path
):
    config = replace(
        PRESETS["tiny"],
        prepared=prepared_folder,
        vqvae=tiny_vqvae,
        plans=tiny_plans,
        out=tmp_path,
        # Of the eight made clips, some are held out.
        held_out_share=0.4,
        vocabulary_steps=0,
        save_every=5,
        patience=10,
        steps=400,
        learning_rate=2e-2,
    )
    train_sft.run(config)
    ended = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["eval_held_out_accuracy"] for line in lines if "eval_held_out_accuracy" in line}
    steps = list(found)
    best = max(found, key=lambda step: found[step])
    assert steps[-1] < 400
    assert steps[-1] == best + config.patience
    kept = load_file(tmp_path / "training" / f"checkpoint-{best}" / "model.safetensors")
    for name, value in load_language_model(tmp_path).model.state_dict().items():
        if name in kept:
            assert torch.equal(value, kept[name]), name
    # Given again, it takes no further step and keeps the same weights.
    before = load_language_model(tmp_path).model.state_dict()
    train_sft.run(config)
    again = [line for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if "train_runtime" not in line]
    assert again == [line for line in ended.splitlines() if "train_runtime" not in line]
    for name, value in load_language_model(tmp_path).model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_held_out_accuracy_is_that_of_scored_tokens():
    hits = np.array([[IGNORED, 1, 1, 0]])
    assert train_sft._accuracy(EvalPrediction(hits, hits)) == {ACCURACY: pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out_share": 1.0}, "held_out_share goes from 0 to below 1, got 1.0"),
        ({"packed": 3}, "packed must divide batch, which is 8, got 3"),
        ({"max_history": 0}, "max_history must be at least 1, got 0"),
        ({"shifts": 9}, "shifts goes from 1 to the 4 frames of a code, got 9"),
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"workers": -1}, "workers must be 0, for all cores, or more, got -1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["tiny"], **fields)


def test_a_clip_without_a_plan_is_refused(prepared_folder: Path, tiny_vqvae: Path, tmp_path: Path):
    plans = tmp_path / "plans.jsonl"
    plans.write_text('{"clip_id": null, "caption": "a", "duration_s": 1.0, "plan": "1. a, 1.0 s", "writer": "x"}\n')
    config = replace(PRESETS["tiny"], prepared=prepared_folder, vqvae=tiny_vqvae, plans=plans, out=tmp_path / "out")
    with pytest.raises(ValueError, match="no plan for 8 clips, 000000t first"):
        train_sft.run(config)
