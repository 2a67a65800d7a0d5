"""Evaluators, saved and loaded as one folder.

checkpoint.json       the stage's config, sizes, where it comes from
model.safetensors     weights and statistics
words.json            judge only: the words that have vectors
text_encoder/         reward only: the frozen text encoder, as it came
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from python_core.checkpoint import (
    CHECKPOINT,
    FORMAT_VERSION,
    put_weights,
    read_config,
    read_json,
    read_sizes,
    read_weights,
    write_json,
)
from python_core.contract.skeleton import BODY_22
from python_core.evaluation.metrics import distances
from python_core.evaluators.evaluator import Evaluator, Judge, JudgeShape
from python_core.evaluators.reward_model import RewardModel, RewardShape
from python_core.evaluators.token_states import FILES, load_token_states
from python_core.features import Normalizer

WEIGHTS, WORDS, TEXT_ENCODER = "model.safetensors", "words.json", "text_encoder"


@dataclass(frozen=True)
class LoadedEvaluator:
    """An evaluator with how far apart its embeddings are."""

    evaluator: Evaluator
    distance: Literal["euclidean", "cosine"]
    """`cosine` is one less the cosine."""

    def distances(self, texts: NDArray[np.float32], motions: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distance of each text to each motion, [N, E] and [M, E] -> [N, M]."""
        return embedding_distances(texts, motions, self.distance)


def embedding_distances(
    texts: NDArray[np.float32], motions: NDArray[np.float32], distance: Literal["euclidean", "cosine"]
) -> NDArray[np.float64]:
    """Distance of each text to each motion, [N, E] and [M, E] -> [N, M]."""
    if distance == "cosine":
        left, right = texts.astype(np.float64), motions.astype(np.float64)
        lengths = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)
        return (1 - left @ right.T / np.maximum(lengths, 1e-12)).clip(0)
    return distances(texts, motions)


def save_judge(folder: Path, judge: Judge, frame_rate_hz: float, config: Any) -> None:
    """Write a judge with its words and statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WORDS).write_text(json.dumps(judge.vocabulary, ensure_ascii=False), encoding="utf-8")
    _save_weights(folder, judge, judge.normalizer)
    fields = {"shape": judge.shape, "train_words": judge.train_words, "training": config}
    write_json(folder / CHECKPOINT, _origin("judge", frame_rate_hz) | fields)


def load_judge(folder: Path) -> Judge:
    """Read a judge, in evaluation mode.

    Raises:
        ValueError: The folder holds no judge of this format, or a damaged one.
    """
    config = read_config(folder, "judge")
    weights, normalizer = read_weights(folder / WEIGHTS)
    words = read_json(folder / WORDS)
    judge = Judge(read_sizes(JudgeShape, config["shape"], folder), words, normalizer, config["train_words"])
    put_weights(judge, weights, folder / WEIGHTS)
    return judge.eval()


def save_reward_model(folder: Path, model: RewardModel, text_encoder: Path, frame_rate_hz: float, config: Any) -> None:
    """Write a reward model; its text encoder is copied once."""
    (folder / TEXT_ENCODER).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (target := folder / TEXT_ENCODER / name).is_file():
            temporary = target.with_suffix(".partial")
            shutil.copyfile(text_encoder / name, temporary)
            temporary.replace(target)
    _save_weights(folder, model, model.normalizer)
    write_json(folder / CHECKPOINT, _origin("reward", frame_rate_hz) | {"shape": model.shape, "training": config})


def load_reward_model(folder: Path) -> RewardModel:
    """Read a reward model, in evaluation mode.

    Raises:
        ValueError: The folder holds no reward model of this format, or a damaged one.
    """
    config = read_config(folder, "reward")
    weights, normalizer = read_weights(folder / WEIGHTS)
    token_states = load_token_states(folder / TEXT_ENCODER, torch.device("cpu"))
    model = RewardModel(read_sizes(RewardShape, config["shape"], folder), token_states, normalizer)
    put_weights(model, weights, folder / WEIGHTS)
    return model.eval()


def load_evaluator(folder: Path) -> LoadedEvaluator:
    """Read an evaluator of either kind.

    Raises:
        ValueError: The folder holds no evaluator of this format, or a damaged one.
    """
    path = folder / CHECKPOINT
    config = read_json(path) if path.is_file() else {}
    if isinstance(config, dict) and config.get("kind") == "reward":
        return LoadedEvaluator(load_reward_model(folder), "cosine")
    return LoadedEvaluator(load_judge(folder), "euclidean")


def evaluator_rate_hz(folder: Path) -> float:
    """Frames a second of the clips that an evaluator learned from, which is one that can be read."""
    return float(read_json(folder / CHECKPOINT)["frame_rate_hz"])


def _origin(kind: str, frame_rate_hz: float) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "skeleton": BODY_22.name,
        "frame_rate_hz": frame_rate_hz,
    }


def _save_weights(folder: Path, model: nn.Module, normalizer: Normalizer) -> None:
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    statistics = {
        f"statistics.{name}": torch.from_numpy(value) for name, value in dataclasses.asdict(normalizer).items()
    }
    temporary = folder / "model.partial"
    save_file(weights | statistics, temporary)
    temporary.replace(folder / WEIGHTS)
