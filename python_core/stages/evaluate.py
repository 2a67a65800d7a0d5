"""Stage `evaluate`: a language model, a judge and clips -> tables, real motions beside ours.

run.json          what the evaluation is of
replies/          what the model said, batch by batch; a killed run goes on from here
judgement.md      tables to read
judgement.json    the same for machines
draws.npz         draws of the bootstrap, a row a draw: those of two models on one `compositions` belong together
"""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from python_core.checkpoint import CHECKPOINT, MOTION_TOKENIZER, load_language_model, start_run
from python_core.clips.prepared import PreparedClips, read_prepared
from python_core.contract.bundle import sha256
from python_core.evaluation.clip_evaluation import ClipEvaluation
from python_core.evaluation.evaluation import Spoken
from python_core.evaluation.generation import Sampling
from python_core.evaluation.judgement_table import Judgement, write_judgement
from python_core.evaluation.long_evaluation import evaluate_sequences
from python_core.evaluation.protocols import PROTOCOLS, ProtocolName
from python_core.evaluation.reply_file import Speaker
from python_core.evaluation.val_composed import SPLIT, ValComposedConfig
from python_core.evaluators.evaluator import Evaluator
from python_core.evaluators.evaluator_checkpoint import evaluator_rate_hz, load_judge
from python_core.evaluators.published_judge import FRAME_RATE_HZ, load_published_judge
from python_core.language_model import token_layout
from python_core.motion_tokenizer import MotionTokenizer
from python_core.processes import open_processes
from python_core.vqvae import FRAMES_PER_CODE

logger = logging.getLogger(__name__)

CLIP_FILES = ("prepared.json", "clips.jsonl", "features.npy", "statistics.npz")
WEIGHTS = {".safetensors", ".tar", ".npy", ".pkl"}
"""With the statistics and words of a published judge."""
CONFIGS = {"checkpoint.json", "words.json", "config.json", "generation_config.json", "tokenizer.json"}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, on what, and how."""

    checkpoint: Path | None = Path("runs/sft")
    """Language model that `train-sft` or `train-grpo` wrote; None judges real motions and nearest captions alone."""

    judge: Path = Path("runs/judge")
    """Evaluator that `train-evaluator` wrote, of kind judge, or a folder of the published one."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    compositions: Path = Path("runs/val_composed")
    """Folder of the compositions of `val_composed`; made where it is missing."""

    out: Path = Path("runs/evaluation")
    """Folder to write."""

    protocol: ProtocolName = "val_composed"
    """Which clips, captions and pools; `protocols.py` says what each is."""

    split: str = ""
    """Split to evaluate, if not the protocol's own."""

    repeats: int = 20
    """Runs with other captions, pieces, pools and replies."""

    sampling: Sampling = field(default_factory=Sampling)
    """How replies are drawn."""

    batch: int = 64
    """Prompts at a time."""

    varied_texts: int = 100
    """Texts of MModality; 0 leaves it out."""

    varied_replies: int = 30
    """Replies to each of them."""

    bootstrap: int = 200
    """Draws of recordings, for compositions; 0 leaves them out."""

    quality_motions: int = 512
    """Motions of each model whose quality is measured."""

    plans: int = 128
    """Exact plans that motions are held against; 0 leaves that out."""

    listed: tuple[str, ...] = ("cmu",)
    """Sources of val clips that people captioned, which `val_composed` lists one by one."""

    segments: int = 8
    """Actions in a sequence of `babel`."""

    history: int = 16
    """Codes of what was said before that each action of a sequence is given."""

    composed: ValComposedConfig = field(default_factory=ValComposedConfig)
    """Which compositions."""

    seed: int = 1
    """Of captions, pieces, pools and replies."""


PRESETS = {
    "base": EvaluateConfig(batch=32),
    "small": EvaluateConfig(repeats=3, varied_texts=20, varied_replies=10),
    "nano": EvaluateConfig(repeats=1, varied_texts=0, quality_motions=128, plans=64, bootstrap=100),
    "tiny": EvaluateConfig(
        repeats=1,
        varied_texts=2,
        varied_replies=3,
        batch=16,
        bootstrap=20,
        quality_motions=4,
        plans=0,
        listed=(),
        sampling=Sampling(max_codes=16),
        composed=ValComposedConfig(num=48),
    ),
}


@dataclass(frozen=True, kw_only=True)
class _MadeOf(EvaluateConfig):
    """All that the result depends on."""

    model_files: str
    judge_files: str


def run(config: EvaluateConfig) -> None:
    """Evaluate, and write the tables.

    Raises:
        ValueError: A checkpoint, a judge or clips are missing or do not fit each other, the split has too few texts for
            a pool, or the folder holds an evaluation of something else.
    """
    prepared = read_prepared(config.prepared)
    judge, rate_hz = _load_judge(config.judge, prepared)
    prepared.check_rate(rate_hz, f"the judge in {config.judge}")
    judge_it(config, judge)


def judge_it(config: EvaluateConfig, judge: Evaluator) -> Judgement:
    """The same with a judge of the caller's."""
    _check(config)
    made_of = _MadeOf(
        **vars(config),
        model_files="" if config.checkpoint is None else _hash_files(config.checkpoint),
        judge_files=_hash_files(config.judge),
    )
    prepared, spoken = read_prepared(config.prepared), _load_spoken(config)
    if spoken is not None:
        prepared.check_rate(spoken.motion_tokenizer.frame_rate_hz, f"the motion tokenizer in {config.checkpoint}")
    processes = open_processes()
    if processes.is_main_process:
        start_run(config.out, made_of, {name: config.prepared / name for name in CLIP_FILES})
    processes.wait_for_everyone()
    if config.protocol == "babel":
        judgement = evaluate_sequences(config, judge, prepared, spoken)
    else:
        judgement = ClipEvaluation(config, judge, prepared, spoken).judge_all()
    # Processes share the drawing of replies, and all judge all of these.
    if processes.is_main_process:
        write_judgement(config.out, judgement)
        logger.info("%s", config.out / "judgement.md")
    return judgement


def _check(config: EvaluateConfig) -> None:
    for name, least in (("repeats", 1), ("batch", 1), ("varied_texts", 0), ("varied_replies", 2), ("bootstrap", 0),
                        ("quality_motions", 0), ("plans", 0), ("history", 0)):  # fmt: skip
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")
    if config.protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {config.protocol!r}")
    if config.protocol == "val_composed" and config.split not in ("", SPLIT):
        raise ValueError(f"val_composed has no split {config.split!r}; composed.split says what it is made of")


def _load_judge(folder: Path, prepared: PreparedClips) -> tuple[Evaluator, float]:
    """A judge, and how many frames a second it is for. A published one reads captions by the words of their text files,
    as its numbers were published.
    """
    if (folder / CHECKPOINT).is_file():
        return load_judge(folder), evaluator_rate_hz(folder)
    judge = load_published_judge(folder)
    if num_unknown := judge.know_words(prepared.clips):
        logger.warning("%d captions were prepared without parts of speech; spaCy finds them", num_unknown)
    return judge, FRAME_RATE_HZ


def _load_spoken(config: EvaluateConfig) -> Spoken | None:
    if config.checkpoint is None:
        return None
    loaded = load_language_model(config.checkpoint)
    motion_tokenizer = MotionTokenizer.load(config.checkpoint / MOTION_TOKENIZER)
    layout = token_layout(loaded.tokenizer, motion_tokenizer.model.shape.codebook)
    loaded.model.to(open_processes().device)  # type: ignore[arg-type]  # its stubs want a device
    speaker = Speaker(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        layout=layout,
        sampling=config.sampling,
        batch=config.batch,
        code_s=FRAMES_PER_CODE / motion_tokenizer.frame_rate_hz,
    )
    return Spoken(speaker, motion_tokenizer)


def _hash_files(folder: Path) -> str:
    """SHA-256 over all files of a checkpoint, or of a published judge, that are read here."""
    read = (path for path in folder.rglob("*") if path.suffix in WEIGHTS or path.name in CONFIGS)
    found = sorted(path.relative_to(folder) for path in read)
    lines = [f"{path} {sha256(folder / path)}" for path in found if "training" not in path.parts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
