"""Stage `train-sft`: a language model learns to plan and to speak motion, from captions, plans and codes.

A sample is a caption and its reply. Half of the replies keep their plan; captions without motion end after the plan.
Only the reply is scored. Clips are encoded from their first frame on and from the next ones, so one motion is several
series of codes.
"""

import json
import logging
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from python_core.checkpoint import forget_after, save_language_model, start_run
from python_core.clips.prepared import PreparedClip, PreparedClips, read_prepared
from python_core.contract.prompt import prompt_ids
from python_core.contract.vocabulary import PROMPT_TEMPLATE, CodebookSize, TokenLayout
from python_core.language_model import (
    LanguageModelShape,
    LoraShape,
    add_motion_rows,
    add_motion_tokens,
    load_backbone,
    merge_lora,
    new_language_model,
    text_ids,
    token_layout,
    train_text_tokenizer,
    with_lora,
)
from python_core.motion_tokenizer import MotionTokenizer
from python_core.stages.build_reasoning import PlanRecord, read_plans

logger = logging.getLogger(__name__)

IGNORED = -100
"""Label of a token that is not scored."""
LENGTH_BUCKETS = 8
"""Clips are sorted into this many by their length; a batch comes from one, so little of it is padding."""


@dataclass(frozen=True, kw_only=True)
class TrainSftConfig:
    """Cold start: plans and motion, by imitation."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    vqvae: Path = Path("runs/vqvae")
    """Checkpoint that `train-vqvae` wrote."""

    plans: Path = Path("runs/plans.jsonl")
    """File that `build-reasoning` wrote."""

    out: Path = Path("runs/sft")
    """Folder of the checkpoint; a run that finds one there goes on from it."""

    model_id: str = "motion-r1-small"
    """Name that the bundle will carry."""

    backbone: Path | None = Path("runs/backbone")
    """Pretrained model in Hugging Face's layout; None trains one of `shape` from scratch."""

    shape: LanguageModelShape = field(default_factory=LanguageModelShape)
    """Size of a model from scratch."""

    lora: LoraShape | None = field(default_factory=LoraShape)
    """Adapter on the backbone; None trains all weights."""

    steps: int = 20_000
    """Optimizer steps."""

    batch: int = 16
    """Samples in a step on one device."""

    learning_rate: float = 1e-4
    """Peak of the learning rate, after a linear warm-up; it falls to 0 by a cosine."""

    warm_up_steps: int = 200
    """Steps until the learning rate is at its peak."""

    weight_decay: float = 0.01
    """Decay of the weights."""

    plan_share: float = 0.5
    """Share of the samples with motion that keep their plan."""

    text_share: float = 0.2
    """Share of the samples that are captions without motion."""

    shifts: int = 2
    """Series of codes of a clip: from each of its first frames on, at most the 4 of a code."""

    max_codes: int = 49
    """Longer motions are cut."""

    bf16: bool = True
    """Compute in bfloat16."""

    save_every: int = 500
    """Steps between checkpoints."""

    seed: int = 1
    """Of the weights and the samples."""


PRESETS = {
    "base": TrainSftConfig(model_id="motion-r1-base", lora=None, learning_rate=2e-5),
    "small": TrainSftConfig(),
    "nano": TrainSftConfig(
        model_id="motion-r1-nano",
        backbone=None,
        lora=None,
        steps=5_000,
        batch=32,
        learning_rate=1e-3,
        weight_decay=0.1,
    ),
    "tiny": TrainSftConfig(
        model_id="motion-r1-tiny",
        backbone=None,
        lora=None,
        shape=LanguageModelShape(text_tokens=400, width=64, layers=2, heads=2, feed_forward=128, max_tokens=256),
        steps=300,
        batch=8,
        learning_rate=5e-3,
        warm_up_steps=5,
        save_every=100,
        bf16=False,
    ),
}


def run(config: TrainSftConfig) -> None:
    """Train, and save model, tokenizer and motion tokenizer as one checkpoint.

    Raises:
        ValueError: Clips, plans, tokenizer or backbone are missing or do not fit each other.
    """
    torch.manual_seed(config.seed)
    prepared, plans = read_prepared(config.prepared), read_plans(config.plans)
    motion_tokenizer = MotionTokenizer.load(config.vqvae)
    codebook = motion_tokenizer.model.shape.codebook
    inputs = [config.prepared / "clips.jsonl", config.vqvae / "model.safetensors", config.plans]
    start_run(config.out, config, inputs)
    model, tokenizer = _start(config, plans, codebook)
    layout = token_layout(tokenizer, codebook)
    codes = _encode(prepared, "train", motion_tokenizer, config.shifts)
    train = Samples(prepared, codes, plans, tokenizer, layout, config)
    trained: Any = model
    if config.lora is not None and config.backbone is not None:
        trained = with_lora(model, config.lora, range(layout.think_open, layout.vocabulary_size))
    trainer = InOrder(
        model=trained,
        args=TrainingArguments(
            output_dir=str(config.out / "training"),
            max_steps=config.steps,
            per_device_train_batch_size=config.batch,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warm_up_steps,
            weight_decay=config.weight_decay,
            adam_beta2=0.99,
            bf16=config.bf16,
            use_cpu=not torch.cuda.is_available(),
            save_steps=config.save_every,
            save_total_limit=1,
            logging_steps=max(1, min(50, config.steps // 4)),
            report_to="tensorboard",
            logging_dir=str(config.out / "tensorboard"),
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=config.seed,
            label_names=["labels"],
        ),
        train_dataset=train,
        data_collator=lambda samples: _pad(samples, layout.turn_end),
        callbacks=[MetricsFile(config.out / "metrics.jsonl")],
    )
    saved = any((config.out / "training").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=saved or None)
    final = merge_lora(trained) if trained is not model else model
    save_language_model(config.out, final, tokenizer, codebook, config.model_id, data_notice(prepared), config)
    shutil.copytree(config.vqvae, config.out / "vqvae", dirs_exist_ok=True, ignore=_not_the_checkpoint)
    logger.info("checkpoint in %s", config.out)


class Samples(Dataset[dict[str, list[int]]]):
    """Prompts and replies as token ids, in batches of clips of like length. Sample `i` is the same whenever it is asked
    for, so a run that goes on after a kill sees what it would have seen.
    """

    def __init__(
        self,
        prepared: PreparedClips,
        codes: dict[str, list[list[int]]],
        plans: list[PlanRecord],
        tokenizer: Tokenizer,
        layout: TokenLayout,
        config: TrainSftConfig,
    ) -> None:
        self.codes, self.tokenizer, self.layout, self.config = codes, tokenizer, layout, config
        by_clip: dict[str, list[PlanRecord]] = defaultdict(list)
        self.text: list[PlanRecord] = []
        for record in plans:
            if record.clip_id is None:
                self.text.append(record)
            else:
                by_clip[record.clip_id].append(record)
        self.clips: list[PreparedClip] = [clip for clip in prepared.split("train") if codes[clip.clip_id]]
        if missing := [clip.clip_id for clip in self.clips if clip.clip_id not in by_clip]:
            raise ValueError(f"{config.plans}: no plan for {len(missing)} clips, {missing[0]} first; build them again")
        self.by_clip = by_clip
        by_length = np.argsort([clip.num_rows for clip in self.clips], kind="stable")
        self.buckets = np.array_split(by_length, min(LENGTH_BUCKETS, len(self.clips)))

    def __len__(self) -> int:
        return self.config.steps * self.config.batch

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        of_batch = np.random.default_rng([self.config.seed, 0, index // self.config.batch])
        random = np.random.default_rng([self.config.seed, 1, index])
        if self.text and of_batch.random() < self.config.text_share:
            record = self.text[random.integers(len(self.text))]
            layout = self.layout
            reply = [layout.think_open, *text_ids(self.tokenizer, record.plan), layout.think_close]
        else:
            bucket = self.buckets[of_batch.integers(len(self.buckets))]
            clip = self.clips[bucket[random.integers(len(bucket))]]
            records = self.by_clip[clip.clip_id]
            record = records[random.integers(len(records))]
            readings = self.codes[clip.clip_id]
            codes = readings[random.integers(len(readings))][: self.config.max_codes]
            planned = random.random() < self.config.plan_share
            reasoning = text_ids(self.tokenizer, record.plan) if planned else None
            reply = [*self.layout.reply_ids(reasoning, codes), self.layout.turn_end]
        caption = record.caption.rstrip(".") if random.random() < 0.5 else record.caption
        prompt = prompt_ids(self.tokenizer, PROMPT_TEMPLATE, self.layout, caption)
        return {"input_ids": prompt + reply, "labels": [IGNORED] * len(prompt) + reply}


def data_notice(prepared: PreparedClips) -> str:
    """What the weights were trained on: clips and licence of each source, a line each."""
    counts = Counter((clip.source, clip.licence) for clip in prepared.split("train"))
    return "\n".join(f"{source}: {count} clips; {licence}" for (source, licence), count in sorted(counts.items()))


class InOrder(Trainer):
    """Takes the samples as they come; their order is random already."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]  # Samples has a length


class MetricsFile(TrainerCallback):
    """Appends what the trainer logs to a file, a JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        forget_after(self.path, state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"step": state.global_step} | (logs or {})) + "\n")


def _encode(prepared: PreparedClips, split: str, tokenizer: MotionTokenizer, shifts: int) -> dict[str, list[list[int]]]:
    """Codes of each clip of a split, read from each of its first `shifts` frames on."""
    codes = {}
    for clip in track(prepared.split(split), f"encoding {split}"):
        rows = np.array(prepared.features(clip))
        codes[clip.clip_id] = [found for found in tokenizer.encode([rows[first:] for first in range(shifts)]) if found]
    return codes


def _start(
    config: TrainSftConfig, plans: list[PlanRecord], codebook: CodebookSize
) -> tuple[PreTrainedModel, Tokenizer]:
    if config.backbone is None:
        texts = [text for record in plans for text in (record.caption, record.plan)]
        tokenizer = train_text_tokenizer(texts, config.shape.text_tokens, codebook)
        layout = token_layout(tokenizer, codebook)
        return new_language_model(config.shape, tokenizer, layout.turn_end), tokenizer
    model, tokenizer = load_backbone(config.backbone)
    add_motion_tokens(tokenizer, codebook)
    add_motion_rows(model, tokenizer, codebook)
    return model, tokenizer


def _pad(samples: list[dict[str, list[int]]], filler: int) -> dict[str, Tensor]:
    longest = max(len(sample["input_ids"]) for sample in samples)

    def padded(name: str, value: int) -> Tensor:
        return torch.tensor([sample[name] + [value] * (longest - len(sample[name])) for sample in samples])

    lengths = torch.tensor([[len(sample["input_ids"])] for sample in samples])
    return {
        "input_ids": padded("input_ids", filler),
        "labels": padded("labels", IGNORED),
        "attention_mask": (torch.arange(longest) < lengths).long(),
    }


def _not_the_checkpoint(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name not in ("checkpoint.json", "model.safetensors")]
