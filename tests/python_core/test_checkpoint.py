import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from python_core.checkpoint import (
    MOTION_TOKENIZER,
    drop_incomplete,
    forget_after,
    load_language_model,
    load_vqvae,
    save_language_model,
    save_vqvae,
    start_run,
    write_json,
)
from python_core.contract.vocabulary import CodebookSize
from python_core.depth_head import DepthHeadShape
from python_core.features import Normalizer
from python_core.language_model import LanguageModelShape, new_language_model, token_layout, train_text_tokenizer
from python_core.vqvae import Vqvae, VqvaeShape


def test_a_motion_tokenizer_of_another_codebook_is_refused(tiny_checkpoint: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "sft")
    config = folder / MOTION_TOKENIZER / "checkpoint.json"
    fields = json.loads(config.read_text())
    assert fields["shape"]["num_levels"] == 2
    fields["shape"]["num_levels"] = 3
    config.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="speaks 2 levels of 32 entries, the motion tokenizer beside it has 3 of 32"):
        load_language_model(folder)


def test_damaged_weights_are_refused_with_their_file(tiny_checkpoint: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "sft")
    weights, spoken = folder / "vqvae" / "model.safetensors", folder / "language_model" / "model.safetensors"
    whole = load_file(weights)
    save_file(whole | {"encoder.linear.weight": torch.zeros(2, 2)}, weights)
    with pytest.raises(ValueError, match=r"vqvae/model\.safetensors: not of the model in checkpoint\.json"):
        load_vqvae(folder / "vqvae")
    for path, load in ((weights, lambda: load_vqvae(folder / "vqvae")), (spoken, lambda: load_language_model(folder))):
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match=rf"{path.parent.name}.* damaged.*copy it again"):
            load()
    (folder / "vqvae" / "checkpoint.json").write_text("{")
    with pytest.raises(ValueError, match=r"vqvae/checkpoint\.json: missing or damaged .*; copy it again"):
        load_vqvae(folder / "vqvae")


def with_tokens(path: Path, num_text_tokens: int, num_more: int = 0) -> None:
    """Write the text tokenizer of another model, with so many text tokens and so many tokens behind those of codes."""
    tokenizer = train_text_tokenizer(map(str, range(2000)), num_text_tokens, CodebookSize(32, 2))
    tokenizer.add_tokens([f"<More_{number}>" for number in range(num_more)])
    tokenizer.save(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path, num: with_tokens(path, num - 1),
            "tokens of codes are the last ones, from {codes} to .* from {less}",
        ),
        (
            lambda path, num: with_tokens(path, num - 1, 1),
            "tokens of codes are the last ones, from {codes} to .* from {less}",
        ),
        (lambda path, num: with_tokens(path, num, 1), "the tokenizer has {more} tokens, the model rows for {all}"),
        (lambda path, num: path.write_text("{"), "missing, or no tokenizer"),
        (lambda path, num: path.unlink(), "missing, or no tokenizer"),
    ],
)
def test_a_text_tokenizer_of_another_model_or_a_damaged_one_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, change: Callable[[Path, int], None], message: str
):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "sft", ignore=shutil.ignore_patterns("training"))
    path = folder / "language_model" / "tokenizer.json"
    num_all = Tokenizer.from_file(str(path)).get_vocab_size()
    num_text = num_all - 4 - 2 * 32
    change(path, num_text)
    expected = message.format(codes=num_text + 4, less=num_text + 3, more=num_all + 1, all=num_all)
    with pytest.raises(ValueError, match=rf"language_model/tokenizer\.json: .*{expected}.*; (put back|copy it again)"):
        load_language_model(folder)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("", {"codebook": None}, r"sft/checkpoint\.json: damaged \(no codebook\); copy it again"),
        (
            "",
            {"codebook": {"levels": 2}},
            r"sft/checkpoint\.json: no sizes of a CodebookSize .*levels.*; copy it again",
        ),
        ("", {"codebook": 5}, r"sft/checkpoint\.json: no sizes of a CodebookSize .*; copy it again"),
        ("vqvae", {"shape": None}, r"vqvae/checkpoint\.json: damaged \(no shape\); copy it again"),
        (
            "vqvae",
            {"shape": {"colour": 2}},
            r"vqvae/checkpoint\.json: no sizes of a VqvaeShape .*colour.*; copy it again",
        ),
    ],
)
def test_a_config_without_what_is_read_of_it_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, name: str, fields: dict[str, object], message: str
):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "sft", ignore=shutil.ignore_patterns("training"))
    path = folder / name / "checkpoint.json"
    changed = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({field: value for field, value in changed.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        load_language_model(folder)
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"checkpoint\.json: damaged \(expected fields, got \[1\]\); copy it again"):
        load_language_model(folder)


@pytest.fixture(scope="module")
def sized_alike(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of two models from scratch that know other words and other codes, and as many."""
    folders = []
    shape = VqvaeShape(width=16, code_width=8, level_size=8, num_levels=2)
    for seed, texts in enumerate((["walk forward", "sit down"], ["jump over it", "turn left"])):
        torch.manual_seed(seed)
        folder, vqvae = tmp_path_factory.mktemp("alike"), Vqvae(shape)
        for level in vqvae.levels:
            torch.nn.init.normal_(level.vectors)  # type: ignore[arg-type]  # a buffer of ours
        statistics = Normalizer(np.zeros(263, np.float32), np.ones(263, np.float32))
        save_vqvae(folder / MOTION_TOKENIZER, vqvae, statistics, 20.0, {})
        tokenizer = train_text_tokenizer(texts, 260, shape.codebook)
        sizes = LanguageModelShape(width=32, layers=1, heads=2, feed_forward=32, max_tokens=64)
        depth = DepthHeadShape(width=16, layers=1, feed_forward=16)
        model = new_language_model(sizes, depth, token_layout(tokenizer, shape.codebook))
        save_language_model(folder, model, tokenizer, shape.codebook, "alike", "made", {})
        folders.append(folder)
    return folders[0], folders[1]


@pytest.mark.parametrize(
    ("name", "field"),
    [("language_model/tokenizer.json", "tokenizer_sha256"), ("vqvae/model.safetensors", "codebook_sha256")],
)
def test_tokenizers_of_another_model_of_the_same_sizes_are_refused(
    sized_alike: tuple[Path, Path], tmp_path: Path, name: str, field: str
):
    folder = shutil.copytree(sized_alike[0], tmp_path / "mixed")
    load_language_model(folder)
    shutil.copy(sized_alike[1] / name, folder / name)
    noted = [json.loads((of / "checkpoint.json").read_text()) for of in sized_alike]
    found, expected = (of[field] for of in reversed(noted))
    with pytest.raises(
        ValueError, match=rf"mixed/{name}: .* {field} is {found}, .* says {expected}; put back the file"
    ):
        load_language_model(folder)
    # One that was saved without hashes has nothing to compare with.
    del noted[0][field]
    (folder / "checkpoint.json").write_text(json.dumps(noted[0]))
    load_language_model(folder)


def test_a_motion_tokenizer_whose_decoder_has_learned_on_has_the_same_codes(
    sized_alike: tuple[Path, Path], tmp_path: Path
):
    folder = shutil.copytree(sized_alike[0], tmp_path / "on")
    path = folder / MOTION_TOKENIZER / "model.safetensors"
    weights = load_file(path)
    moved = {name: value + 1 for name, value in weights.items() if name.startswith("decoder.")}
    assert moved
    save_file(weights | moved, path)
    load_language_model(folder)


def test_a_config_of_another_codebook_than_the_model_speaks_is_refused(tiny_checkpoint: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "sft", ignore=shutil.ignore_patterns("training", "vqvae"))
    path = folder / "checkpoint.json"
    fields = json.loads(path.read_text())
    fields["codebook"]["num_levels"] = 3
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="says 3 levels of 32 entries, the model in language_model speaks 2 of 32"):
        load_language_model(folder)


@dataclass(frozen=True)
class Config:
    steps: int
    seed: int


def test_a_run_knows_each_of_its_inputs_also_if_two_files_have_one_name(tmp_path: Path):
    inputs = {name: tmp_path / name / "model.safetensors" for name in ("judge", "reward")}
    for path in inputs.values():
        path.parent.mkdir()
        path.write_text("weights")
    start_run(tmp_path / "run", Config(steps=1, seed=1), inputs)
    start_run(tmp_path / "run", Config(steps=9, seed=1), inputs)
    for name, path in inputs.items():
        path.write_text("other weights")
        with pytest.raises(
            ValueError, match=f"holds a run with another {name}; choose another folder, or remove this one"
        ):
            start_run(tmp_path / "run", Config(steps=1, seed=1), inputs)
        path.write_text("weights")


def test_what_a_killed_process_left_of_a_file_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            write_json(tmp_path / "run.json", {"seed": 1})
    (left,) = tmp_path.iterdir()
    assert left.name != "run.json"
    monkeypatch.setattr(os, "getpid", lambda: 1)  # The run goes on in another process.
    write_json(tmp_path / "run.json", {"seed": 2})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"run.json": '{\n  "seed": 2\n}\n'}


def test_a_run_that_goes_on_leaves_its_note_alone(tmp_path: Path):
    start_run(tmp_path, Config(steps=1, seed=1), {})
    before = (tmp_path / "run.json").stat().st_ino
    start_run(tmp_path, Config(steps=1, seed=1), {})
    assert (tmp_path / "run.json").stat().st_ino == before


def test_checkpoints_that_were_being_written_or_removed_are_dropped(tmp_path: Path):
    states = {"whole": "{}", "half-written": '{"step"', "stateless": None, "half-removed": "{}"}
    for name, state in states.items():
        folder = tmp_path / f"checkpoint-{name}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
        for rank in range(1 if name == "half-removed" else 2):
            (folder / f"rng_state_{rank}.pth").touch()
    drop_incomplete(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-whole"]


def test_a_run_of_another_number_of_processes_is_refused(tmp_path: Path):
    start_run(tmp_path / "one", Config(steps=1, seed=1), {})
    start_run(tmp_path / "two", Config(steps=1, seed=1), {}, num_processes=2)
    with pytest.raises(ValueError, match="holds a run with another num_processes"):
        start_run(tmp_path / "one", Config(steps=1, seed=1), {}, num_processes=2)
    with pytest.raises(ValueError, match="holds a run with another num_processes"):
        start_run(tmp_path / "two", Config(steps=1, seed=1), {})


def test_a_line_of_metrics_that_was_being_written_is_dropped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    forget_after(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
