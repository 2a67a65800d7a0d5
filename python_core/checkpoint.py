"""Weights, config and origin, saved and loaded as one.

checkpoint.json           the stage's config, the model's shape, where it comes from
model.safetensors       weights
training.pt             optimizer, step and random state, to go on after a kill
"""

import dataclasses
import hashlib
import json
import logging
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from python_core.contract.bundle import sha256
from python_core.contract.skeleton import BODY_22
from python_core.contract.vocabulary import CodebookSize
from python_core.features import Normalizer
from python_core.language_model import read_text_tokenizer, token_layout
from python_core.motion_model import SpeaksMotion, load_motion_model
from python_core.vqvae import Vqvae, VqvaeShape
from python_core.whole_file import write_text

logger = logging.getLogger(__name__)

_Sizes = TypeVar("_Sizes")

# Of several processes on the CPU each has a device of its own, which torch saves to and does not read back.
torch.serialization.register_package(
    0, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
)

FORMAT_VERSION = 2
FIELDS = {
    "vqvae": ("shape", "frame_rate_hz"),
    "language-model": ("codebook", "model_id", "data_notice"),
    "judge": ("shape", "frame_rate_hz", "train_words"),
    "reward": ("shape", "frame_rate_hz"),
}
"""What a config holds that is read, by the kind of its checkpoint."""
CHECKPOINT = "checkpoint.json"
MAY_CHANGE = {"steps", "save_every", "stop_after_s", "workers"}
"""Fields of a config that a run that goes on may have other values of."""
MOTION_TOKENIZER = "vqvae"
"""Folder of the motion tokenizer in a checkpoint of a language model."""


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write dataclasses, paths and tuples as JSON, in one step."""
    write_text(path, json.dumps(fields, indent=2, ensure_ascii=False, default=_plain) + "\n")


def save_vqvae(folder: Path, model: Vqvae, normalizer: Normalizer, frame_rate_hz: float, config: Any) -> None:
    """Write a tokenizer with the statistics of its features."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    statistics = {
        "statistics.mean": torch.from_numpy(normalizer.mean),
        "statistics.std": torch.from_numpy(normalizer.std),
    }
    save_file(weights | statistics, folder / "model.partial")
    (folder / "model.partial").replace(folder / "model.safetensors")
    write_json(
        folder / CHECKPOINT,
        {
            "format_version": FORMAT_VERSION,
            "kind": "vqvae",
            "skeleton": BODY_22.name,
            "frame_rate_hz": frame_rate_hz,
            "shape": model.shape,
            "training": config,
        },
    )


def load_vqvae(folder: Path) -> tuple[Vqvae, Normalizer, float]:
    """Read a tokenizer: model in evaluation mode, statistics, frame rate in hertz.

    Raises:
        ValueError: The folder holds no tokenizer of this format, or a damaged one.
    """
    config = read_config(folder, "vqvae")
    shape = read_sizes(VqvaeShape, config["shape"], folder)
    path = folder / "model.safetensors"
    weights, normalizer = read_weights(path)
    model = Vqvae(shape)
    put_weights(model, weights, path)
    return model.eval(), normalizer, float(config["frame_rate_hz"])


def read_weights(path: Path) -> tuple[dict[str, Tensor], Normalizer]:
    """Weights, and the statistics of features that are saved with them.

    Raises:
        ValueError: The file is missing or damaged.
    """
    try:
        weights = load_file(path)
        mean, std = (np.asarray(weights.pop(f"statistics.{name}"), dtype=np.float32) for name in ("mean", "std"))
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: missing or damaged ({error}); copy it again") from error
    return weights, Normalizer(mean, std)


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights of a file into a model.

    Raises:
        ValueError: They are of another one.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: not of the model in {CHECKPOINT} ({error}); copy it again") from error


def save_language_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    codebook: CodebookSize,
    model_id: str,
    notice: str,
    config: Any,
    weights: dict[str, Any] | None = None,
) -> None:
    """Write a language model with its text tokenizer; the motion tokenizer is put beside it by the caller, before.

    Hashes of both tokenizers say later whether they are still those that the model knows.

    Args:
        folder: To write into.
        model: The model.
        tokenizer: Its text tokenizer.
        codebook: Of the motion tokenizer.
        model_id: Name that a bundle will carry.
        notice: What it was trained on.
        config: Of the run.
        weights: Where they are not the model's own, because it is held in parts.
    """
    model.save_pretrained(folder / "language_model", state_dict=weights)
    path = folder / "language_model" / "tokenizer.json"
    tokenizer.save(str(path))
    write_json(
        folder / CHECKPOINT,
        {
            "format_version": FORMAT_VERSION,
            "kind": "language-model",
            "model_id": model_id,
            "codebook": dataclasses.asdict(codebook),
            "tokenizer_sha256": sha256(path),
            "codebook_sha256": codebook_sha256(folder / MOTION_TOKENIZER),
            "data_notice": notice,
            "training": config,
        },
    )


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A language model as it was saved."""

    model: SpeaksMotion
    """In evaluation mode, weights in float32."""
    tokenizer: Tokenizer
    model_id: str
    data_notice: str
    """What it was trained on, a source a line."""


def load_language_model(folder: Path) -> LanguageModel:
    """Read a language model with its text tokenizer.

    Raises:
        ValueError: The folder holds no language model of this format or a damaged one, its text tokenizer is of another
            model, or the motion tokenizer beside it has another codebook than the one that the model speaks. Models
            saved without hashes of them are compared by sizes alone.
    """
    config = read_config(folder, "language-model")
    spoken = read_sizes(CodebookSize, config["codebook"], folder)
    if (folder / MOTION_TOKENIZER).is_dir():
        shape = read_config(folder / MOTION_TOKENIZER, "vqvae")["shape"]
        beside = read_sizes(VqvaeShape, shape, folder / MOTION_TOKENIZER).codebook
        if spoken != beside:
            raise ValueError(
                f"{folder}: the language model speaks {spoken.num_levels} levels of {spoken.level_size} entries, the "
                f"motion tokenizer beside it has {beside.num_levels} of {beside.level_size}; put back the one that "
                "train-sft put there"
            )
    model = load_motion_model(folder / "language_model")
    if model.codebook != spoken:
        raise ValueError(
            f"{folder / CHECKPOINT}: says {spoken.num_levels} levels of {spoken.level_size} entries, the model in "
            f"language_model speaks {model.codebook.num_levels} of {model.codebook.level_size}; copy the whole "
            "checkpoint again"
        )
    path = folder / "language_model" / "tokenizer.json"
    tokenizer = read_text_tokenizer(path)
    _check_tokens(model, tokenizer, path)
    _check_hashes(config, folder)
    return LanguageModel(model, tokenizer, config["model_id"], config["data_notice"])


def _check_tokens(model: SpeaksMotion, tokenizer: Tokenizer, path: Path) -> None:
    """Refuse the text tokenizer of another model, with which this one would read and write other tokens than it knows.

    Raises:
        ValueError: Its tokens are not where the model's rows are.
    """
    advice = "put back the tokenizer.json that the model was trained with"
    try:
        layout = token_layout(tokenizer, model.codebook)
    except ValueError as error:
        raise ValueError(f"{path}: not of the model beside it ({error}); {advice}") from error
    num_rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    if num_rows < layout.vocabulary_size:
        raise ValueError(
            f"{path}: the tokenizer has {layout.vocabulary_size} tokens, the model rows for {num_rows}; {advice}"
        )
    first_code = model.config.motion_codes["first_code"]
    expected = (first_code, first_code + model.codebook.num_tokens)
    if (found := (layout.first_code, layout.vocabulary_size)) != expected:
        raise ValueError(
            f"{path}: the model's tokens of codes are the last ones, from {expected[0]} to {expected[1] - 1}; the "
            f"tokenizer has its own from {found[0]} on, and {found[1]} tokens in all; {advice}"
        )


def _check_hashes(config: dict[str, Any], folder: Path) -> None:
    """Refuse tokenizers of another model, also where sizes are the same.

    Raises:
        ValueError: A hash is not the one in the config.
    """
    path, beside = folder / "language_model" / "tokenizer.json", folder / MOTION_TOKENIZER
    hashes = {"tokenizer_sha256": (path, sha256(path))}
    if beside.is_dir():
        hashes["codebook_sha256"] = (beside / "model.safetensors", codebook_sha256(beside))
    for name, (path, found) in hashes.items():
        if found != (expected := config.get(name, found)):
            raise ValueError(
                f"{path}: of another model: its {name} is {found}, {CHECKPOINT} says {expected}; put back the file "
                "that the language model was trained with, or copy the whole checkpoint again"
            )


def codebook_sha256(folder: Path) -> str:
    """SHA-256 of the vectors of a motion tokenizer's codes, level by level; its decoder may learn on.

    Raises:
        ValueError: Its weights are missing or damaged.
    """
    weights, _ = read_weights(folder / "model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if name.endswith(".vectors")):
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """The config of a checkpoint, with all of its `FIELDS`.

    Raises:
        ValueError: No checkpoint, one of another kind, of another format version, or damaged.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{folder}: no {CHECKPOINT}, so no checkpoint; train one with python -m python_core")
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: damaged (expected fields, got {str(config)[:40]}); copy it again")
    found = (config.get("kind"), config.get("format_version"))
    if found != (kind, FORMAT_VERSION):
        raise ValueError(f"{path}: expected a {kind} of format {FORMAT_VERSION}, got a {found[0]} of format {found[1]}")
    if missing := [name for name in FIELDS[kind] if name not in config]:
        raise ValueError(f"{path}: damaged (no {', '.join(missing)}); copy it again")
    return config


def read_json(path: Path) -> Any:
    """What a file of a checkpoint holds.

    Raises:
        ValueError: The file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: missing or damaged ({error}); copy it again") from error


def read_sizes(kind: type[_Sizes], fields: Any, folder: Path) -> _Sizes:
    """Sizes as a dataclass, from what the config of a checkpoint says of them.

    Raises:
        ValueError: They are not its fields.
    """
    try:
        # JSON has no tuples.
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CHECKPOINT}: no sizes of a {kind.__name__} ({error}); copy it again") from error


def start_run(folder: Path, config: Any, inputs: Mapping[str, Path], num_processes: int = 1) -> None:
    """Note what a run in this folder is made of, or compare a run that goes on with what was noted.

    Of several processes that share a run, one calls this: a file has one writer at a time.

    Args:
        folder: Where the run writes.
        config: Its config; how long it runs, how often it saves and how many workers it has may change.
        inputs: Files that it reads, by what they are.
        num_processes: Processes that share it; each has a random state of its own.

    Raises:
        ValueError: The folder holds a run of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields = json.loads(json.dumps(dataclasses.asdict(config), default=_plain))
    paths = {field for field, value in vars(config).items() if isinstance(value, Path)}
    made_of = {field: value for field, value in fields.items() if field not in paths | MAY_CHANGE}
    made_of |= {name: sha256(path) for name, path in inputs.items()}
    if num_processes > 1:
        made_of["num_processes"] = num_processes
    path = folder / "run.json"
    if path.is_file():
        noted = json.loads(path.read_text(encoding="utf-8"))
        names = noted.keys() | made_of.keys()
        if changed := sorted(name for name in names if noted.get(name) != made_of.get(name)):
            raise ValueError(
                f"{folder}: holds a run with another {', '.join(changed)}; choose another folder, or remove this one"
            )
    else:
        write_json(path, made_of)


def forget_after(path: Path, step: int) -> None:
    """Drop the lines of a metrics file that a killed run wrote after its last checkpoint; those steps come again."""
    if path.is_file():
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        write_text(path, "".join(f"{line}\n" for line in kept))


def drop_incomplete(folder: Path, num_processes: int) -> None:
    """Remove checkpoints of a `Trainer` that were being written, or removed, when the run was killed.

    It writes its state last, and the random state of each process beside it. Of several checkpoints another is whole.

    Args:
        folder: Of the checkpoints.
        num_processes: Of the run, which `start_run` has compared.
    """
    for path in folder.glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            whole = len(list(path.glob("rng_state*.pth"))) == num_processes
        except (OSError, ValueError):
            whole = False
        if not whole:
            logger.warning("%s: incomplete, removed", path)
            shutil.rmtree(path)


def save_training(path: Path, state: dict[str, Any]) -> None:
    """Write what a killed run needs to go on with the same numbers; the old file stays until the new one is whole."""
    temporary = path.with_suffix(".partial")
    random = {"cpu": torch.get_rng_state(), "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []}
    torch.save(state | {"random": random}, temporary)
    temporary.replace(path)


def load_training(path: Path) -> dict[str, Any] | None:
    """What `save_training` wrote, with the random state restored; None before the first time.

    Raises:
        ValueError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        random = state.pop("random")
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove it to start again") from error
    torch.set_rng_state(random["cpu"])
    if random["cuda"] and torch.cuda.is_available():
        # Of the first process's device, for each process's own.
        torch.cuda.set_rng_state(random["cuda"][0])
    return state


def _step_of(line: str) -> float:
    """Of a line of metrics; one that was being written when the run was killed comes after all."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} to a config")
