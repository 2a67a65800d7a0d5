"""Stage `train-grpo`: replies that are rewarded become likelier; reasoning and motion improve together.

The loop is TRL's `GRPOTrainer`; here are the prompts, the replies' forms, the rewards and what is watched. Runs under
`accelerate launch`, see deploy/accelerate.

Source: Shao et al. 2024, DeepSeekMath, for GRPO; Yu et al. 2025, DAPO, for the loss; Motion-R1 (Ouyang et al. 2025).
"""

import json
import logging
import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from python_core.bfloat16 import warn_where_slow
from python_core.checkpoint import (
    MOTION_TOKENIZER,
    drop_incomplete,
    load_language_model,
    read_config,
    save_language_model,
    start_run,
)
from python_core.clips.prepared import read_prepared
from python_core.contract.bundle import sha256
from python_core.contract.vocabulary import TURN_END, TokenLayout
from python_core.evaluation.val_composed import ValComposedConfig, compose_val
from python_core.evaluators.evaluator import Evaluator
from python_core.evaluators.evaluator_checkpoint import evaluator_rate_hz, load_evaluator, load_reward_model
from python_core.grpo.alarms import Alarms
from python_core.grpo.best_checkpoint import BestCheckpoint, best_checkpoint
from python_core.grpo.judged_replies import HeldOutTexts
from python_core.grpo.lora_tokens import drop_reference_adapter
from python_core.grpo.prompts import check_room, read_prompts
from python_core.grpo.replies import ReplyReader
from python_core.grpo.rewards import PAPER_WEIGHTS, Rewards, RewardWeights
from python_core.grpo.rollouts import FormShares, Rollouts
from python_core.language_model import LoraShape, merge_lora, token_layout, with_lora
from python_core.metrics_file import MetricsFile
from python_core.motion_model import load_motion_model
from python_core.motion_tokenizer import MotionTokenizer
from python_core.processes import open_processes
from python_core.reply_mask import longest_reply
from python_core.sft.clip_codes import CODES, read_codes
from python_core.stages.build_reasoning import read_plans
from python_core.stages.train_sft import OPTIMIZERS, Optimizer
from python_core.time_limit import TimeLimit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainGrpoConfig:
    """Learn from rewards."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    sft: Path = Path("runs/sft")
    """Checkpoint that `train-sft` wrote; its motion tokenizer is beside it."""

    reward_model: Path = Path("runs/reward")
    """Checkpoint of the evaluator that gives rewards."""

    plans: Path = Path("runs/plans.jsonl")
    """File that `build-reasoning` wrote; it says how many beats a caption has where its clip does not."""

    compositions: Path = Path("runs/val_composed")
    """Folder of the compositions of val clips that the judge is shown; made where it is missing. Half of them choose
    the weights, so tables of these weights are to be read on the other half.
    """

    composed: ValComposedConfig = field(default_factory=ValComposedConfig)
    """Which compositions."""

    judge: Path | None = Path("runs/judge")
    """Checkpoint of the other evaluator, which chooses the best weights; None takes the last."""

    out: Path = Path("runs/grpo")
    """Folder of the checkpoint; a run that finds one there goes on from it."""

    model_id: str = "motion-r1-small"
    """Name that the bundle will carry."""

    paper: bool = False
    """The paper's three rewards, added up and normalized by group, and nothing else: every prompt asks for reasoning,
    which need not be a plan, and nothing is constrained. `weights` and the two shares do not count then.
    """

    weights: RewardWeights = field(default_factory=RewardWeights)
    """How much each reward counts; each is normalized in its group before they are added up."""

    lora: LoraShape | None = field(default_factory=LoraShape)
    """Adapter on the SFT model; None trains all weights."""

    steps: int = 2_000
    """Optimizer steps."""

    group: int = 8
    """Replies of a prompt."""

    batch: int = 16
    """Replies in a forward and backward pass on one device."""

    accumulate: int = 4
    """Passes in a step. Devices x batch x accumulate is a multiple of `group`."""

    iterations: int = 1
    """Steps that learn from the same replies; `steps` and `save_every` are multiples of it."""

    learning_rate: float = 1e-5
    """Peak of the learning rate, after a linear warm-up; it falls to 0 by a cosine."""

    warm_up_steps: int = 20
    """Steps until the learning rate is at its peak."""

    optimizer: Optimizer = "adamw"
    """`adafactor` keeps a few numbers for each row and column of a weight where `adamw` keeps two for each weight, so
    that a checkpoint is a third as large.
    """

    beta: float = 0.005
    """Weight of the divergence from the SFT model."""

    epsilon: float = 0.2
    """How far below 1 the ratio of probabilities is clipped."""

    epsilon_high: float = 0.28
    """How far above 1 it is clipped."""

    temperature: float = 1.0
    """Of the replies."""

    max_codes: int = 49
    """Longer motions are cut off."""

    reasoning_share: float = 0.8
    """Share of the prompts that ask for reasoning."""

    constrained_share: float = 0.75
    """Share of the prompts whose replies are decoded under the grammar."""

    mask_cut_off: bool = True
    """Replies that were cut off teach nothing, though they count in their group's mean; otherwise they are malformed
    replies as others are, so that a model that does not find the end learns to.
    """

    bf16: bool = True
    """Compute in bfloat16."""

    learned_levels: int | None = None
    """Levels of a code that learn from rewards, from the first on; None takes all. The first says what is done; of the
    others, which are most of the tokens and near to noise, a reward says little.
    """

    gradient_checkpointing: bool = False
    """Compute activations twice, to keep fewer."""

    vllm: bool = False
    """Sample replies with vLLM, which shares the GPU; nothing is constrained then, and codes have one level, since vLLM
    knows no depth head. All presets have more: train with `train-vqvae --shape.num-levels 1` and `train-sft` first.
    """

    judge_every: int = 100
    """Steps between the judge's measures."""

    judge_replies: int = 256
    """Captions of compositions that are answered for a measure."""

    save_every: int = 50
    """Steps between checkpoints."""

    stop_after_s: float | None = None
    """Seconds after which the run saves itself and ends, to go on when it is given again; None goes on to the end."""

    seed: int = 1
    """Of prompts and replies."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "max_codes", "judge_every", "judge_replies", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.group < 2:
            raise ValueError(f"group must be at least 2, since replies are compared in it, got {self.group}")
        if self.warm_up_steps < 0:
            raise ValueError(f"warm_up_steps must be at least 0, got {self.warm_up_steps}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.iterations < 1 or self.steps % self.iterations or self.save_every % self.iterations:
            raise ValueError(
                f"iterations must be 1 or more and divide steps ({self.steps}) and save_every ({self.save_every}), "
                f"since replies are not saved; got {self.iterations}"
            )


PRESETS = {
    "base": TrainGrpoConfig(
        model_id="motion-r1-base",
        lora=None,
        learning_rate=1e-6,
        batch=8,
        accumulate=8,
        gradient_checkpointing=True,
    ),
    "small": TrainGrpoConfig(mask_cut_off=False),
    "nano": TrainGrpoConfig(
        model_id="motion-r1-nano",
        lora=None,
        steps=300,
        learning_rate=1e-5,
        # Replies of all passes of a step are sampled side by side; small passes have less padding.
        batch=16,
        accumulate=4,
        mask_cut_off=False,
        bf16=False,
        judge_every=50,
        judge_replies=128,
        save_every=10,
    ),
    "tiny": TrainGrpoConfig(
        model_id="motion-r1-tiny",
        lora=None,
        steps=4,
        group=4,
        batch=8,
        accumulate=1,
        learning_rate=1e-4,
        warm_up_steps=1,
        max_codes=16,
        bf16=False,
        composed=ValComposedConfig(num=24),
        judge_every=2,
        judge_replies=8,
        save_every=2,
    ),
}


def run(config: TrainGrpoConfig) -> None:
    """Train, and save the weights that the judge likes best as one checkpoint with the motion tokenizer.

    Raises:
        ValueError: Clips, checkpoints or evaluators are missing or do not fit each other; options that do not go with
            the levels of the codes; a reward that is no number from 0 to 1, after which a further run goes on from the
            last checkpoint.
    """
    reward_model = load_reward_model(config.reward_model)
    judge = None if config.judge is None else load_evaluator(config.judge).evaluator
    prepared = read_prepared(config.prepared)
    for folder in (config.reward_model, config.judge):
        if folder is not None:
            prepared.check_rate(evaluator_rate_hz(folder), f"the evaluator in {folder}")
    train(config, reward_model, judge)


def train(config: TrainGrpoConfig, reward_model: Evaluator, judge: Evaluator | None) -> None:
    """The same with evaluators at hand.

    Raises:
        ValueError: As `run`.
    """
    time_limit = TimeLimit(config.stop_after_s, config.iterations)
    # A run that cannot begin leaves nothing that a corrected one would be compared with.
    _check_levels(config, read_config(config.sft, "language-model")["codebook"]["num_levels"])
    rate_hz = read_config(config.sft / MOTION_TOKENIZER, "vqvae")["frame_rate_hz"]
    read_prepared(config.prepared).check_rate(rate_hz, f"the motion tokenizer in {config.sft}")
    read_plans(config.plans)
    processes = open_processes()
    if processes.is_main_process:
        warn_where_slow(config.bf16)
        start_run(config.out, config, read_files(config), processes.num_processes)
    processes.wait_for_everyone()
    trainer, layout = make_trainer(config, reward_model, judge)
    trainer.add_callback(time_limit)
    if processes.is_main_process:
        drop_incomplete(config.out / "training", processes.num_processes)
    processes.wait_for_everyone()
    saved = last_step(config.out)
    # A trainer that has taken all of its steps would take another one.
    if saved < config.steps:
        trainer.train(resume_from_checkpoint=saved > 0 or None)
    if time_limit.has_stopped:
        return
    processes.wait_for_everyone()
    if processes.is_main_process:
        best = best_checkpoint(config.out)
        last = config.out / "training" / f"checkpoint-{last_step(config.out)}"
        _save(config, last if best is None else best[0], layout)
    processes.wait_for_everyone()


def _check_levels(config: TrainGrpoConfig, num_levels: int) -> None:
    """Refuse options that do not go with the levels of the codes that the SFT model speaks."""
    if config.vllm and num_levels > 1:
        raise ValueError(
            f"vllm: it has no depth head, and codes of {config.sft} have {num_levels} levels; leave vllm "
            "out, or begin with train-vqvae --shape.num-levels 1"
        )
    if config.learned_levels is not None and not 1 <= config.learned_levels <= num_levels:
        raise ValueError(
            f"learned_levels: expected 1 to {num_levels}, the levels of the codes of {config.sft}, got "
            f"{config.learned_levels}"
        )


def last_step(folder: Path) -> int:
    """Step of the last checkpoint of a run, 0 before the first."""
    return max((int(path.name.split("-")[1]) for path in folder.glob("training/checkpoint-*")), default=0)


def read_files(config: TrainGrpoConfig) -> dict[str, Path]:
    """Files that a run depends on, by what they are.

    An SFT model with an adapter is known by that: merged into its backbone on another machine, it has other last bits.
    """
    adapters = sorted(config.sft.glob("training/checkpoint-*/adapter_model.safetensors"))
    folders = {
        "language_model": None if adapters else config.sft / "language_model",
        "motion_tokenizer": config.sft / MOTION_TOKENIZER,
        "reward_model": config.reward_model,
        "judge": config.judge,
    }
    files = {"clips": config.prepared / "clips.jsonl", "plans": config.plans}
    files |= {f"adapter/{path.parent.name}": path for path in adapters}
    if (config.sft / CODES).is_file():
        files["codes"] = config.sft / CODES
    for name, folder in folders.items():
        if folder is not None:
            found = [path.relative_to(folder) for path in sorted(folder.rglob("*.safetensors"))]
            files |= {f"{name}/{path}": folder / path for path in found if "training" not in path.parts}
    return files


def make_trainer(
    config: TrainGrpoConfig, reward_model: Evaluator, judge: Evaluator | None, rollouts: Any = None
) -> tuple[Any, TokenLayout]:
    """A `GRPOTrainer` that is ready to train, and where the tokens of its replies are.

    Args:
        config: Of the run.
        reward_model: Gives the rewards.
        judge: Chooses the best checkpoint; None chooses none.
        rollouts: TRL's `rollout_func`; None samples from the model.

    Raises:
        ValueError: The model has no room for the replies, or clips, model and motion tokenizer do not fit each other.
    """
    from trl.trainer.grpo_config import GRPOConfig

    from python_core.grpo.reply_trainer import ReplyTrainer

    processes = open_processes()
    torch.manual_seed(config.seed)
    prepared = read_prepared(config.prepared)
    motion_tokenizer = MotionTokenizer.load(config.sft / MOTION_TOKENIZER)
    spoken = load_language_model(config.sft)
    layout = token_layout(spoken.tokenizer, motion_tokenizer.model.shape.codebook)
    weights = PAPER_WEIGHTS if config.paper else config.weights
    shares = FormShares(reasoning=config.reasoning_share, constrained=config.constrained_share)
    if config.paper:
        shares = FormShares(reasoning=1.0, constrained=0.0)
    sampled = Rollouts(spoken.tokenizer, layout, shares, config.max_codes, config.seed)
    prompts = read_prompts(prepared, read_plans(config.plans), config.max_codes)
    check_room(spoken.model, [sampled.prompt_ids(row["prompt"]) for row in prompts], config.max_codes)
    reader = ReplyReader(motion_tokenizer, spoken.tokenizer, layout, any_reasoning=config.paper)
    functions, counts = Rewards(reader, reward_model, prepared, config.group, read_known_codes(config)).functions(
        weights
    )
    metrics = config.out / "metrics.jsonl"
    alarms = Alarms(metrics)
    # The file first: a run that goes on drops from it what comes again.
    callbacks: list[Any] = [MetricsFile(metrics), alarms] if processes.is_main_process else []
    best = None
    if judge is not None:
        with processes.main_process_first():
            composed = compose_val(config.prepared, config.compositions, config.composed)
        held_out = HeldOutTexts(judge, composed, config.judge_replies, config.seed)
        best = BestCheckpoint(held_out, sampled, reader, config.out, config.judge_every, alarms)
        check_room(spoken.model, best.prompts, config.max_codes)
        callbacks.append(best)
    with warnings.catch_warnings():
        # TRL may still change `rollout_func`; it is the only way to give each reply a form and a grammar.
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'", category=UserWarning)
        trainer = ReplyTrainer(
            model=_start(spoken.model, config, layout),
            reward_funcs=functions,  # type: ignore[arg-type]  # theirs return lists, ours sequences
            args=GRPOConfig(
                output_dir=str(config.out / "training"),
                max_steps=config.steps,
                per_device_train_batch_size=config.batch,
                gradient_accumulation_steps=config.accumulate,
                num_generations=config.group,
                num_iterations=config.iterations,
                # In tokens, of which a code has one for each level.
                max_completion_length=longest_reply(config.max_codes) + (layout.num_levels - 1) * config.max_codes,
                learning_rate=config.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=config.warm_up_steps,
                beta=0.0,
                epsilon=config.epsilon,
                epsilon_high=config.epsilon_high,
                temperature=config.temperature,
                reward_weights=counts,
                multi_objective_aggregation="sum_then_normalize" if config.paper else "normalize_then_sum",
                scale_rewards="group",
                loss_type="dapo",
                mask_truncated_completions=config.mask_cut_off,
                disable_dropout=True,
                bf16=config.bf16,
                gradient_checkpointing=config.gradient_checkpointing,
                use_cpu=not torch.cuda.is_available(),
                use_vllm=config.vllm,
                optim=OPTIMIZERS[config.optimizer],
                save_steps=config.save_every,
                save_total_limit=1,
                logging_steps=1,
                report_to="tensorboard",
                logging_dir=str(config.out / "tensorboard"),
                dataloader_pin_memory=False,
                seed=config.seed,
            ),
            train_dataset=Dataset.from_list(prompts),
            processing_class=PreTrainedTokenizerFast(
                tokenizer_object=spoken.tokenizer, eos_token=TURN_END, pad_token=TURN_END
            ),
            callbacks=callbacks,
            beta=config.beta,
            layout=layout,
            learned_levels=config.learned_levels or layout.num_levels,
            rollout_func=rollouts or sampled,
        )
    assert isinstance(trainer.model, torch.nn.Module)
    drop_reference_adapter(trainer.model)
    if best is not None:
        best.trainer = trainer
    return trainer, layout


def read_known_codes(config: TrainGrpoConfig) -> dict[str, list[int]]:
    """Codes of clips, by their ids, that `train-sft` left in its folder; none where that was of other clips."""
    if not (config.sft / CODES).is_file():
        return {}
    noted = json.loads((config.sft / "run.json").read_text(encoding="utf-8"))
    if noted["clips"] != sha256(config.prepared / "clips.jsonl"):
        logger.warning("%s: codes of other clips than %s has, not used", config.sft / CODES, config.prepared)
        return {}
    return {clip_id: series[0] for clip_id, series in read_codes(config.sft / CODES) if series}


def _start(model: PreTrainedModel, config: TrainGrpoConfig, layout: TokenLayout) -> Any:
    # Instruct models come with sampling settings of their own; a penalty on repetition would forbid held poses.
    model.generation_config = GenerationConfig(eos_token_id=layout.turn_end, pad_token_id=layout.turn_end)
    if config.lora is None:
        return model.train()
    return with_lora(model, config.lora, range(layout.think_open, layout.vocabulary_size)).train()


def _save(config: TrainGrpoConfig, weights: Path, layout: TokenLayout) -> None:
    """Write the checkpoint of the run from the weights that were chosen."""
    spoken = load_language_model(config.sft)
    if config.lora is None:
        model = load_motion_model(weights)
    else:
        from peft import PeftModel

        model = merge_lora(PeftModel.from_pretrained(spoken.model, str(weights)))
    tokenizer: Tokenizer = spoken.tokenizer
    shutil.copytree(config.sft / MOTION_TOKENIZER, config.out / MOTION_TOKENIZER, dirs_exist_ok=True)
    save_language_model(config.out, model, tokenizer, layout.codebook, config.model_id, spoken.data_notice, config)
    logger.info("checkpoint in %s, of %s", config.out, weights)
