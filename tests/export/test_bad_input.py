"""Checkpoints and disks with which no bundle can be made."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from export.bundle_writer import export_bundle
from export.config import ExportConfig
from export.source import read_source
from python_core.checkpoint import load_language_model
from python_core.contract.bundle import open_bundle


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint", ignore=shutil.ignore_patterns("training"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_an_architecture_without_a_graph_is_named(checkpoint: Path):
    tokens = Tokenizer.from_file(str(checkpoint / "language_model" / "tokenizer.json")).get_vocab_size()
    config = GPT2Config(vocab_size=tokens, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    config.motion_codes = load_language_model(checkpoint).model.config.motion_codes | {"depth_head": None}
    GPT2LMHeadModel(config).save_pretrained(checkpoint / "language_model")
    with pytest.raises(
        ValueError, match=r"architecture GPT2LMHeadModel has no graph; expected one of LlamaForCausalLM"
    ):
        read_source(checkpoint)


def test_a_model_type_that_nobody_knows_is_named(checkpoint: Path):
    path = checkpoint / "language_model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "dreamer"}))
    with pytest.raises(ValueError, match="dreamer"):
        read_source(checkpoint)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(checkpoint: Path):
    path = checkpoint / "language_model" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens(["<Extra>"])
    tokenizer.save(str(path))
    num_tokens = tokenizer.get_vocab_size()
    expected = (
        rf"the tokenizer has {num_tokens} tokens, the model rows for {num_tokens - 1}; put back the tokenizer\.json"
    )
    with pytest.raises(ValueError, match=expected):
        read_source(checkpoint)


def test_a_tokenizer_without_motion_tokens_is_refused(checkpoint: Path):
    path = checkpoint / "language_model" / "tokenizer.json"
    fields = json.loads(path.read_text())
    fields["added_tokens"] = [token for token in fields["added_tokens"] if token["content"] != "<think>"]
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="the tokenizer has no token <think>"):
        read_source(checkpoint)


def test_rows_that_pad_a_vocabulary_are_dropped(checkpoint: Path):
    source = read_source(checkpoint)
    model, num_tokens = source.language_model, source.tokens.vocabulary_size
    token_ids = torch.tensor([[5, 6, 7]])
    before = model(token_ids).logits
    model.resize_token_embeddings(num_tokens + 60, mean_resizing=False)
    model.save_pretrained(checkpoint / "language_model")
    trimmed = read_source(checkpoint).language_model
    assert torch.equal(trimmed(token_ids).logits, before)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_named(checkpoint: Path, number: float):
    name = "model.layers.1.mlp.up_proj.weight"
    change_weights(checkpoint / "language_model", lambda weights: weights[name][3, :2].fill_(number))
    with pytest.raises(ValueError, match=rf"{name} holds 2 numbers that are not finite, of 8192; training diverged"):
        read_source(checkpoint)


def test_a_motion_tokenizer_that_diverged_is_named(checkpoint: Path):
    change_weights(checkpoint / "vqvae", lambda weights: weights["statistics.mean"][0].fill_(float("nan")))
    with pytest.raises(ValueError, match=r"vqvae: mean holds 1 numbers that are not finite"):
        read_source(checkpoint)


def test_an_adapter_that_was_not_merged_is_refused(checkpoint: Path):
    (checkpoint / "language_model" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter beside its model; merge it first"):
        read_source(checkpoint)


@pytest.mark.parametrize("limit_bytes", [pytest.param(3_000, marks=pytest.mark.slow), 150_000])
def test_a_disk_that_fills_leaves_the_old_bundle_and_nothing_half_written(
    limit_bytes: int, tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
):
    old = shutil.copytree(tiny_bundle, tmp_path / "old")
    before = open_bundle(old)
    # No file may grow beyond the limit, which writers see as they see a full disk.
    script = (
        "import resource, sys; from export.__main__ import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); sys.exit(main(sys.argv[1:]))"
    )
    for bundle in (old, tmp_path / "new"):
        command = [sys.executable, "-c", script, str(tiny_checkpoint), str(bundle), "--parity-tokens", "20"]
        finished = subprocess.run(command, capture_output=True, text=True)
        assert finished.returncode == 2, finished.stderr
        assert "File too large" in finished.stderr.splitlines()[-1]
        assert "Traceback" not in finished.stderr
    assert open_bundle(old) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


FILL = """
import resource, shutil, sys
from pathlib import Path
from export import bundle_writer
from export.__main__ import main
from python_core.contract.bundle import open_bundle

*phases, tiny_bundle, checkpoint, bundle = sys.argv[1:]
open_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
writers = {phase: getattr(bundle_writer, phase) for phase in phases}
decoder = open_bundle(Path(tiny_bundle)).manifest.motion_decoder

def copy_decoder(_decoder, _precision, folder, *_):
    shutil.copy(Path(tiny_bundle) / decoder.file, folder)
    return decoder

bundle_writer.write_motion_decoder_graph = copy_decoder
for phase, write in writers.items():
    def write_on_a_full_disk(*given, write=write):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, open_limits[1]))
        return write(*given)

    now = getattr(bundle_writer, phase)
    setattr(bundle_writer, phase, write_on_a_full_disk)
    print(f"{phase}: {main([checkpoint, bundle, '--parity-tokens', '20'])}")
    resource.setrlimit(resource.RLIMIT_FSIZE, open_limits)
    setattr(bundle_writer, phase, now)
"""
"""Exports with a disk that fills when a phase begins, one after another."""


@pytest.mark.parametrize(
    "phases",
    [
        ("build_language_model", "write_graph", "write_depth_head", "write_manifest", "_put_in_place"),
        pytest.param(("write_motion_decoder_graph",), marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fills_in_any_phase_leaves_the_old_bundle(
    phases: Sequence[str], tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, elsewhere: Path
):
    old = shutil.copytree(tiny_bundle, elsewhere / "old")
    link = tmp_path / "link"
    link.symlink_to(old)
    before = open_bundle(old)
    command = [sys.executable, "-c", FILL, *phases, str(tiny_bundle), str(tiny_checkpoint), str(link)]
    finished = subprocess.run(command, capture_output=True, text=True)
    told = [line for line in finished.stderr.splitlines() if line.startswith("export:")]
    assert len(told) == len(phases), finished.stderr
    assert all("File too large" in line for line in told)
    assert all(f"{phase}: 2" in finished.stdout.splitlines() for phase in phases)
    assert "Traceback" not in finished.stderr
    assert open_bundle(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    assert {path.name for path in old.iterdir()} == {path.name for path in tiny_bundle.iterdir()}


@pytest.mark.usefixtures("decoder_of_the_tiny_bundle")
def test_a_bundle_on_another_file_system_is_replaced(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, elsewhere: Path
):
    old = shutil.copytree(tiny_bundle, elsewhere / "old")
    (old / ".export-killed").mkdir()
    (old / ".export-killed" / "manifest.json").touch()
    (tmp_path / "link").symlink_to(old)
    manifest = export_bundle(tiny_checkpoint, tmp_path / "link", ExportConfig(licence="MIT", parity_tokens=20))
    assert open_bundle(old).manifest == manifest
    assert manifest.licence == "MIT"
    assert {path.name for path in old.iterdir()} == {path.name for path in tiny_bundle.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ExportConfig(provider="tensorrt", precision="int4"), "precision int4 is not for tensorrt"),
        (ExportConfig(provider="cuda", cache_precision="int8"), "cache_precision int8 is for --provider cpu, got cuda"),
        (ExportConfig(cache_precision="int8"), "cache_precision int8 is not for precision fp32"),
        (ExportConfig(provider="tensorrt", decoder_precision="int8"), "decoder_precision int8 is not for tensorrt"),
        (ExportConfig(build_engines=True), "build_engines is for --provider tensorrt, got cpu"),
        (ExportConfig(judge=Path("judge")), "judge needs prepared"),
        (ExportConfig(temperature=-1.0), "temperature must be 0 to 2, got -1"),
        (ExportConfig(depth_temperature=float("nan")), "depth_temperature must be 0 to 2, got nan"),
        (ExportConfig(reasoning_temperature=3.0), "reasoning_temperature must be 0 to 2, got 3"),
        (ExportConfig(top_p=0.0), "top_p must be more than 0 and at most 1, got 0"),
        (ExportConfig(top_p=1.5), "top_p must be more than 0 and at most 1, got 1.5"),
        (ExportConfig(parity_tokens=0), "parity_tokens must be at least 1, got 0"),
        (ExportConfig(check_on="cuda"), "check_on must be one of cpu for cpu, got 'cuda'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(
    config: ExportConfig, expected: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=expected):
        export_bundle(tmp_path, tmp_path / "bundle", config)
