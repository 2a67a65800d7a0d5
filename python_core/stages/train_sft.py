"""Stage `train-sft`: a language model learns to plan and to speak motion, from captions, plans and codes.

Clips are encoded from their first frame on and from the next ones, so one motion is several series of codes. Clips of
some takes are held out; how well the model foretells them says which weights are kept, and when to stop.
"""

import logging
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import parse_flag_from_env
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from python_core.bfloat16 import warn_where_slow
from python_core.checkpoint import (
    MOTION_TOKENIZER,
    drop_incomplete,
    load_language_model,
    save_language_model,
    start_run,
)
from python_core.clips.cmu import CREDIT
from python_core.clips.cmu import SOURCE as CMU
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips, read_prepared
from python_core.clips.takes import clip_takes, hold_out
from python_core.depth_head import DepthHeadShape
from python_core.evaluators.token_states import load_token_states
from python_core.language_model import (
    LanguageModelShape,
    LoraShape,
    add_motion_rows,
    add_motion_tokens,
    load_backbone,
    merge_lora,
    new_language_model,
    sizes_of,
    token_layout,
    train_text_tokenizer,
    with_lora,
)
from python_core.metrics_file import MetricsFile
from python_core.motion_model import IGNORED, SpeaksMotion, speak_motion
from python_core.motion_tokenizer import MotionTokenizer
from python_core.processes import open_processes
from python_core.sft.carried_codes import carry_codes_over
from python_core.sft.clip_codes import encode_once
from python_core.sft.early_stop import ACCURACY, EarlyStop
from python_core.sft.packing import pack
from python_core.sft.samples import HeldOutSamples, SampleShares, SampleWriter, TrainingSamples
from python_core.stages.build_reasoning import PlanRecord, read_plans
from python_core.time_limit import TimeLimit
from python_core.vqvae import FRAMES_PER_CODE
from python_core.word_rows import word_rows

logger = logging.getLogger(__name__)

Optimizer = Literal["adamw", "adafactor"]
OPTIMIZERS: dict[Optimizer, str] = {"adamw": "adamw_torch_fused", "adafactor": "adafactor"}
"""As `Trainer` calls them."""
SAMPLE_WRITERS = 8
"""Processes that write samples for a GPU, which waits for a single one. A sample depends on its number alone."""


@dataclass(frozen=True, kw_only=True)
class TrainSftConfig(SampleShares):
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

    backbone: str | None = "runs/backbone"
    """Pretrained causal language model: a folder in Hugging Face's layout, or a name on its hub; None trains one of
    `shape` from scratch.
    """

    start: Path | None = None
    """Checkpoint of `train-sft` or `train-grpo` that learns on, from these clips and plans; `vqvae` has to have the
    codebook that it speaks, or see `new_codes`. None begins with the backbone, or from scratch.
    """

    new_codes: bool = False
    """With start: it is to speak the codes of another motion tokenizer, `vqvae`. What it has for an entry begins as the
    mean of what it had for those that its own tokenizer chooses at the same times, over the train split.
    """

    shape: LanguageModelShape = field(default_factory=LanguageModelShape)
    """Size of a model from scratch; with start its checkpoint notes that of the model that began."""

    text_encoder: Path | None = None
    """Frozen text encoder that gives a model from scratch its rows of words, such as `fetch-backbone text-encoder`
    writes; None draws them, and they are learned.
    """

    depth: DepthHeadShape = field(default_factory=DepthHeadShape)
    """Size of the head that speaks the later levels of a code; a codebook of one level needs none."""

    read_levels: int | None = 1
    """Levels of a code that the model reads, from the first; None leaves it at all, or at what `start` reads."""

    lora: LoraShape | None = field(default_factory=LoraShape)
    """Adapter on the backbone; None trains all weights."""

    steps: int = 20_000
    """Optimizer steps."""

    batch: int = 16
    """Samples in a forward and backward pass on one device."""

    accumulate: int = 1
    """Passes in a step."""

    optimizer: Optimizer = "adamw"
    """`adafactor` keeps a few numbers for each row and column of a weight where `adamw` keeps two for each weight, so
    that a checkpoint is a third as large.
    """

    packed: int = 1
    """Samples side by side in a row. More than one saves padding, where attention leaves out what is masked."""

    learning_rate: float = 1e-4
    """Peak of the learning rate, after a linear warm-up; it falls to 0 by a cosine."""

    warm_up_steps: int = 200
    """Steps until the learning rate is at its peak."""

    weight_decay: float = 0.01
    """Decay of the weights."""

    shifts: int = 2
    """Series of codes of a clip: from each of its first frames on, at most the 4 of a code."""

    candidates: int = 32
    """Codes that the search for those of a clip tries at each step; fewer take less time, and the root drifts more."""

    workers: int = 0
    """Processes that encode clips on a CPU; 0 takes as many as there are cores."""

    bf16: bool = True
    """Compute in bfloat16."""

    held_out_share: float = 0.05
    """Share of the takes that are held out; 0 trains on all and keeps the last weights."""

    patience: int = 2_500
    """Training ends after so many steps in which no checkpoint foretold held-out replies better; those of
    `vocabulary_steps` do not count.
    """

    save_every: int = 500
    """Steps between checkpoints, at each of which held-out replies are foretold."""

    stop_after_s: float | None = None
    """Seconds after which the run saves itself and ends, to go on when it is given again; None goes on to the end."""

    seed: int = 1
    """Of the weights and the samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share goes from 0 to below 1, got {self.held_out_share}")
        if not 1 <= self.shifts <= FRAMES_PER_CODE:
            raise ValueError(f"shifts goes from 1 to the {FRAMES_PER_CODE} frames of a code, got {self.shifts}")
        for name in ("steps", "batch", "accumulate", "patience", "save_every", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must be 0, for all cores, or more, got {self.workers}")
        if self.text_encoder is not None and self.backbone is not None:
            raise ValueError("text_encoder is for a model from scratch; leave it out, or set backbone to None")
        if self.start is not None and self.backbone is not None:
            raise ValueError("start has a model of its own; leave it out, or set backbone to None")
        if self.new_codes and self.start is None:
            raise ValueError("new_codes is for a model that speaks others; give start, or leave it out")
        if self.packed < 1 or self.batch % self.packed:
            raise ValueError(f"packed must divide batch, which is {self.batch}, got {self.packed}")


PRESETS = {
    "base": TrainSftConfig(
        model_id="motion-r1-base",
        backbone="Qwen/Qwen2.5-3B-Instruct",
        lora=None,
        learning_rate=2e-5,
        accumulate=8,
        packed=4,
    ),
    # The rates of an H100's first slice (docs/experiments.md); so many steps take it three quarters of an hour.
    "small": TrainSftConfig(lora=LoraShape(rank=64), steps=6_000, batch=64, learning_rate=8e-4, vocabulary_steps=500),
    "nano": TrainSftConfig(
        model_id="motion-r1-nano",
        backbone=None,
        lora=None,
        steps=5_000,
        batch=32,
        learning_rate=1e-3,
        weight_decay=0.1,
        vocabulary_steps=500,
    ),
    "tiny": TrainSftConfig(
        model_id="motion-r1-tiny",
        backbone=None,
        lora=None,
        shape=LanguageModelShape(text_tokens=400, width=64, layers=2, heads=2, feed_forward=128, max_tokens=256),
        depth=DepthHeadShape(width=32, layers=1, feed_forward=64),
        steps=450,
        batch=8,
        learning_rate=5e-3,
        warm_up_steps=5,
        vocabulary_steps=20,
        history_share=0.0,
        held_out_share=0.0,
        patience=100,
        save_every=100,
        bf16=False,
    ),
}


def run(config: TrainSftConfig) -> None:
    """Train, and save model, tokenizer and motion tokenizer as one checkpoint.

    Raises:
        ValueError: Clips, plans, tokenizer or backbone are missing or do not fit each other; options that do not go
            with the codes or with FSDP.
    """
    time_limit = TimeLimit(config.stop_after_s)
    processes = open_processes()
    if processes.num_processes == 1 and torch.cuda.device_count() > 1:
        raise ValueError(
            f"expected one GPU for one process, got {torch.cuda.device_count()}; start with accelerate launch, or set "
            "CUDA_VISIBLE_DEVICES=0"
        )
    torch.manual_seed(config.seed)
    prepared, plans = read_prepared(config.prepared), read_plans(config.plans)
    motion_tokenizer = MotionTokenizer.load(config.vqvae)
    prepared.check_rate(motion_tokenizer.frame_rate_hz, f"the motion tokenizer in {config.vqvae}")
    codebook = motion_tokenizer.model.shape.codebook
    if config.text_encoder is not None and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError("text_encoder: FSDP cuts the embedding into parts, whose rows cannot be kept; use DDP")
    # Before a run is begun, which a corrected one would be compared with.
    model, tokenizer = _start(config, prepared, plans, motion_tokenizer)
    if config.read_levels is not None:
        model.read_first_levels(config.read_levels)
    if processes.is_main_process:
        warn_where_slow(config.bf16)
        inputs = {"clips": config.prepared / "clips.jsonl", "statistics": config.prepared / "statistics.npz"}
        inputs |= {"tokenizer": config.vqvae / "model.safetensors", "plans": config.plans}
        if config.text_encoder is not None:
            inputs["text encoder"] = config.text_encoder / "model.safetensors"
            inputs["text encoder's tokenizer"] = config.text_encoder / "tokenizer.json"
        if config.start is not None:
            inputs["start"] = config.start / "language_model" / "model.safetensors"
        backbone = _backbone_files(config)
        # A folder may lie elsewhere, but must hold the same weights.
        noted = replace(config, backbone=None) if backbone else config
        start_run(config.out, noted, inputs | backbone, processes.num_processes)
        drop_incomplete(config.out / "training", processes.num_processes)
    with processes.main_process_first():
        codes = encode_once(
            prepared.split("train"),
            config.prepared,
            config.vqvae,
            config.shifts,
            config.candidates,
            config.out,
            config.workers,
        )
    if not torch.cuda.is_available():
        # The backward pass of torch's own attention takes a third of a step of short samples there.
        model.set_attn_implementation("eager")
    layout = token_layout(tokenizer, codebook)
    words = _fixed_rows(config, model, tokenizer, layout.think_open)
    writer = SampleWriter(plans, codes, FRAMES_PER_CODE / prepared.frame_rate_hz, tokenizer, layout, config)
    kept, held_out = _split(prepared, config)
    batches = config.accumulate * processes.num_processes
    trained: Any = model
    if config.lora is not None and (config.backbone is not None or config.start is not None):
        trained = with_lora(model, config.lora, range(layout.think_open, layout.vocabulary_size))
    # A run that has stopped early takes no further step.
    early_stop = EarlyStop(config.patience, config.vocabulary_steps)
    steps = early_stop.stopped_at(config.out / "training") or config.steps
    evaluated = HeldOutSamples(writer, held_out) if held_out else None
    watches = {"eval_strategy": "steps", "metric_for_best_model": ACCURACY, "load_best_model_at_end": True}
    trainer = InOrder(
        model=trained,
        args=TrainingArguments(
            output_dir=str(config.out / "training"),
            max_steps=steps,
            per_device_train_batch_size=config.batch,
            # Not more than there are, or a batch would be filled up with copies of its own longest samples.
            per_device_eval_batch_size=min(config.batch, len(evaluated)) if evaluated else config.batch,
            gradient_accumulation_steps=config.accumulate,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warm_up_steps,
            weight_decay=config.weight_decay,
            adam_beta2=0.99,
            bf16=config.bf16,
            use_cpu=not torch.cuda.is_available(),
            optim=OPTIMIZERS[config.optimizer],
            save_steps=config.save_every,
            # With one, the trainer removes the last checkpoint at the end if another is the best.
            save_total_limit=2 if held_out else 1,
            logging_steps=max(1, min(50, config.steps // 4)),
            report_to="tensorboard",
            logging_dir=str(config.out / "tensorboard"),
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            dataloader_num_workers=SAMPLE_WRITERS if torch.cuda.is_available() else 0,
            seed=config.seed,
            label_names=["labels"],
            eval_steps=config.save_every,
            **(watches if held_out else {}),
        ),
        train_dataset=TrainingSamples(writer, kept, config.batch, batches, steps, config.seed),
        eval_dataset=evaluated,
        data_collator=lambda samples: pack(samples, -(-len(samples) // config.packed), layout.turn_end),
        compute_metrics=_accuracy,
        preprocess_logits_for_metrics=lambda hits, labels: hits,
        callbacks=[MetricsFile(config.out / "metrics.jsonl"), time_limit],
    )
    if held_out:
        trainer.add_callback(early_stop)
    if words is not None:
        trainer.add_callback(words)
    saved = any((config.out / "training").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=saved or None)
    if time_limit.has_stopped:
        return
    # Of all processes, since each may hold a part.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trained is model else None
    if processes.is_main_process:
        shutil.copytree(config.vqvae, config.out / MOTION_TOKENIZER, dirs_exist_ok=True, ignore=_not_the_checkpoint)
        final = merge_lora(trained) if weights is None else model
        notice = data_notice(prepared)
        if config.start is not None:
            shape, depth = sizes_of(model, layout)
            config = replace(config, shape=shape, depth=depth)
        save_language_model(config.out, final, tokenizer, codebook, config.model_id, notice, config, weights)
        logger.info("checkpoint in %s", config.out)
    processes.wait_for_everyone()


def data_notice(prepared: PreparedClips) -> str:
    """What the weights were trained on, a source a line: clips and licence. Compositions are made of the others. A
    source that asks for a credit has its own.
    """
    clips = prepared.split("train")
    counts = Counter((clip.source, clip.licence) for clip in clips if clip.source != COMPOSED)
    lines = [f"{source}: {count} clips; {licence}" for (source, licence), count in sorted(counts.items())]
    if num_composed := len(clips) - counts.total():
        lines.append(f"{COMPOSED}: {num_composed} clips, made of these")
    if any(source == CMU for source, _ in counts):
        lines.append(CREDIT)
    return "\n".join(lines)


class InOrder(Trainer):
    """Takes the samples as they come; their order is random already."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]  # Samples has a length


class FixedRows(TrainerCallback):
    """Keeps the first rows of an embedding as they were when training began, or when its checkpoint was written."""

    def __init__(self, weight: Tensor, num_rows: int) -> None:
        self.weight, self.num_rows = weight, num_rows
        # Or they would count when gradients are clipped.
        weight.register_hook(self._without)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rows = self.weight[: self.num_rows].detach().clone()

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Weights decay without a gradient, too.
        self.weight[: self.num_rows] = self.rows

    def _without(self, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[: self.num_rows] = 0
        return gradient


def _split(prepared: PreparedClips, config: TrainSftConfig) -> tuple[list[PreparedClip], list[PreparedClip]]:
    """Clips to train on, and clips that are held out."""
    train, clip_ids = prepared.split("train"), frozenset(clip.clip_id for clip in prepared.clips)
    if not config.held_out_share:
        return train, []
    kept, held_out = hold_out(train, clip_ids, config.held_out_share)
    takes = {take for clip in held_out for take in clip_takes(clip, clip_ids)}
    logger.info("%d clips of %d takes are held out, %d are trained on", len(held_out), len(takes), len(kept))
    unknown = sum(not clip.take for clip in train)
    if unknown > len(train) / 2:
        logger.warning(
            "%d of %d clips are of unknown takes, so one recording may be on both sides; list takes in takes.csv",
            unknown,
            len(train),
        )
    return kept, held_out


def _accuracy(evaluated: Any) -> dict[str, float]:
    """Share of the scored tokens that were the likeliest."""
    hits = evaluated.predictions
    return {ACCURACY: float(hits[hits != IGNORED].mean())}


def _start(
    config: TrainSftConfig, prepared: PreparedClips, plans: list[PlanRecord], motion_tokenizer: MotionTokenizer
) -> tuple[SpeaksMotion, Tokenizer]:
    codebook = motion_tokenizer.model.shape.codebook
    if config.start is not None:
        began = load_language_model(config.start)
        own = MotionTokenizer.load(config.start / MOTION_TOKENIZER)
        if config.new_codes:
            clips = (prepared.features(clip) for clip in prepared.split("train"))
            carry_codes_over(began.model, own, motion_tokenizer, clips)
        elif not _same_codebook(own, motion_tokenizer):
            raise ValueError(
                f"{config.start} speaks the codes of the motion tokenizer in its folder {MOTION_TOKENIZER}, whose "
                f"codebook is not that of {config.vqvae}; give --vqvae {config.start / MOTION_TOKENIZER}, or "
                "--new-codes to teach it these"
            )
        return began.model, began.tokenizer
    if config.backbone is None:
        texts = [text for record in plans for text in (record.caption, record.plan)]
        tokenizer = train_text_tokenizer(texts, config.shape.text_tokens, codebook)
        layout = token_layout(tokenizer, codebook)
        return new_language_model(config.shape, config.depth, layout), tokenizer
    model, tokenizer = load_backbone(config.backbone)
    add_motion_tokens(tokenizer, codebook)
    add_motion_rows(model, tokenizer, codebook)
    return speak_motion(model, token_layout(tokenizer, codebook), config.depth), tokenizer


def _same_codebook(one: MotionTokenizer, other: MotionTokenizer) -> bool:
    """Whether codes of both stand for the same."""
    weights = [tokenizer.model.levels.state_dict() for tokenizer in (one, other)]
    vectors = [{name: value for name, value in of.items() if name.endswith(".vectors")} for of in weights]
    return vectors[0].keys() == vectors[1].keys() and all(
        torch.equal(value, vectors[1][name]) for name, value in vectors[0].items()
    )


def _backbone_files(config: TrainSftConfig) -> dict[str, Path]:
    """Weights of a backbone that lies in a folder, by what they are."""
    if config.backbone is None:
        return {}
    return {f"backbone/{path.name}": path for path in sorted(Path(config.backbone).glob("*.safetensors"))}


def _fixed_rows(config: TrainSftConfig, model: SpeaksMotion, tokenizer: Tokenizer, num_rows: int) -> FixedRows | None:
    """Rows of words that a text encoder gives, where there is one."""
    if config.text_encoder is None:
        return None
    weight = model.get_input_embeddings().get_parameter("weight")
    if config.start is None:  # Which brings the rows that it has learned with.
        encoder = load_token_states(config.text_encoder, torch.device("cpu"))
        with torch.no_grad():
            weight[:num_rows] = word_rows(tokenizer, num_rows, encoder, weight.shape[1], config.seed)
    return FixedRows(weight, num_rows)


def _not_the_checkpoint(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name not in ("checkpoint.json", "model.safetensors")]
