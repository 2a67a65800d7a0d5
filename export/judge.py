"""Whether replies are as good after quantization as before, by what a judge says of their motions."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from bridge.decoder import Decoder
from bridge.depth_head import open_depth_head
from bridge.engine import Engine
from export.config import ExportConfig
from export.parity import ParityError, decode_streamed, write_reply
from export.replies import AT_ONCE, most_codes
from export.source import Source
from python_core.clips.prepared import read_prepared
from python_core.contract.bundle import JudgeParity, Manifest
from python_core.contract.prompt import PromptTemplate
from python_core.contract.vocabulary import PROMPT_TEMPLATE
from python_core.evaluation.generation import Prompt, Sampling, generate
from python_core.evaluation.judgement import judged_features
from python_core.evaluation.val_composed import ValComposedConfig, compose_val
from python_core.evaluators.evaluator_checkpoint import evaluator_rate_hz, load_evaluator
from python_core.grpo.judged_replies import HeldOutTexts

logger = logging.getLogger(__name__)

R_AT_3_LOSS = 0.08
"""The replies are drawn anew: of 256 the share has a standard deviation of 0.03, before and after."""
KID_SPREADS = 3.0
"""How many of its standard deviations KID may grow."""


def check_with_judge(
    source: Source, bundle: Path, manifest: Manifest, provider: str, config: ExportConfig, progress: Progress
) -> JudgeParity:
    """Let torch and the sessions answer the same captions, and a judge look at both.

    Raises:
        ValueError: There is no judge, too few val clips can be composed, or they have another frame rate than judge or
            checkpoint.
        ParityError: The sessions' motions fit their captions less, or are less like real ones.
    """
    assert config.judge is not None
    assert config.prepared is not None
    judge, prepared = load_evaluator(config.judge).evaluator, read_prepared(config.prepared)
    prepared.check_rate(evaluator_rate_hz(config.judge), f"the judge in {config.judge}")
    prepared.check_rate(source.frame_rate_hz, "the checkpoint's motion tokenizer")
    with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        composed = compose_val(config.prepared, Path(folder), ValComposedConfig(num=4 * config.judge_replies))
        held_out = HeldOutTexts(judge, composed, config.judge_replies, seed=0)
    template = PromptTemplate(source.tokenizer, PROMPT_TEMPLATE, source.tokens)
    asked = [template.ids(caption) for caption in held_out.captions]
    max_codes = most_codes(source, max(map(len, asked)))
    before = held_out.measure(0, _torch_motions(source, held_out.captions, max_codes, config, progress))
    after = held_out.measure(1, _session_motions(asked, max_codes, bundle, manifest, provider, progress))
    parity = JudgeParity(
        num_replies=len(held_out.captions),
        r_at_3_before=before.r_at_3,
        r_at_3=after.r_at_3,
        max_r_at_3_loss=R_AT_3_LOSS,
        kid_before=before.kid,
        kid=after.kid,
        max_kid_gain=KID_SPREADS * before.kid_spread,
    )
    logger.info(
        "judge: R@3 %.3f, before %.3f; KID %.4g, before %.4g", after.r_at_3, before.r_at_3, after.kid, before.kid
    )
    for what, loss, allowed in (
        ("R@3 falls by", parity.r_at_3_before - parity.r_at_3, parity.max_r_at_3_loss),
        ("KID grows by", parity.kid - parity.kid_before, parity.max_kid_gain),
    ):
        if not loss <= allowed:
            raise ParityError(f"{what} {loss:.3g} with these weights, allowed {allowed:.3g}; no bundle was written")
    return parity


def _torch_motions(
    source: Source, captions: Sequence[str], max_codes: int, config: ExportConfig, progress: Progress
) -> list[NDArray[np.float32]]:
    """Features of each reply's motion, [F, D]."""
    motions: list[NDArray[np.float32]] = []
    batches = [captions[first : first + AT_ONCE] for first in range(0, len(captions), AT_ONCE)]
    for number, batch in enumerate(progress.track(batches, description="replies before, for the judge")):
        sampling = Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            depth_temperature=config.depth_temperature,
            reasoning_temperature=config.reasoning_temperature,
            max_codes=max_codes,
            constrained=True,
        )
        prompts = [Prompt(caption) for caption in batch]
        replies = generate(source.language_model, source.tokenizer, source.tokens, prompts, sampling, number)
        series = [reply.codes for reply in replies]
        motions += [judged_features(motion) for motion in source.motion_decoder.motions(series, source.frame_rate_hz)]
    return motions


def _session_motions(
    asked: Sequence[list[int]], max_codes: int, bundle: Path, manifest: Manifest, provider: str, progress: Progress
) -> list[NDArray[np.float32]]:
    """The same of prompts in token ids."""
    engine = Engine(bundle, manifest.language_model, provider)
    head = open_depth_head(bundle, manifest, engine.state_width, provider)
    decoder = Decoder(bundle, manifest, provider)
    motions = []
    for seed, prompt in enumerate(progress.track(asked, description="replies after, for the judge")):
        motions.append(
            judged_features(decode_streamed(decoder, write_reply(engine, head, manifest, prompt, seed, max_codes)))
        )
    return motions
