"""The same inputs through torch and through the bridge's own sessions; an export that differs too much fails."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from bridge.decoder import Decoder, join
from bridge.engine import Engine
from bridge.sampler import Sampler
from python_core.contract.bundle import Manifest, Parity
from python_core.contract.motion import Motion
from python_core.contract.prompt import prompt_ids
from python_core.contract.vocabulary import Place, ReplyParser
from python_core.motion_decoder import MotionDecoder

logger = logging.getLogger(__name__)

PROMPTS = (
    "a person walks forward and then turns around",
    "someone sneaks forward slowly",
    "a person does a squat",
    "the man kicks with the left leg, then stands still",
    "a person jumps up and down three times",
    "walk in a circle while waving the right arm",
)


class ParityError(ValueError):
    """The graphs do not compute what the checkpoint computes; says by how much, and what was allowed."""


def measure_language_model(
    model: PreTrainedModel, tokenizer: Tokenizer, engine: Engine, manifest: Manifest, num_positions: int
) -> tuple[float, NDArray[np.bool_], list[list[int]]]:
    """Let the session write replies until they have `num_positions` tokens, then let torch read them.

    Returns:
        Largest difference of logits, whether the likeliest token is the same at each position, and the replies' codes.
    """
    differences, agreements, replies = [], [], []
    positions, seed = 0, 0
    while positions < num_positions:
        prompt = prompt_ids(tokenizer, manifest.prompt_template, manifest.tokens, PROMPTS[seed % len(PROMPTS)])
        written, logits, codes = _write_reply(engine, manifest, prompt, seed)
        with torch.no_grad():
            expected = model(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1].numpy()
        differences.append(np.abs(expected - logits).max())
        agreements.append(expected.argmax(-1) == logits.argmax(-1))
        replies.append(codes)
        positions += len(written)
        seed += 1
    return float(np.max(differences)), np.concatenate(agreements), replies


def measure_motion_decoder(
    reference: MotionDecoder, decoder: Decoder, manifest: Manifest, replies: Sequence[Sequence[int]]
) -> tuple[float, float, int]:
    """Decode whole clips by torch and code by code by the session.

    Returns:
        Largest distance of roots, metres; largest angle between rotations, degrees; number of frames compared.
    """
    distances, angles, frames = [], [], 0
    for codes in replies:
        expected = reference.motion(list(codes), manifest.frame_rate_hz)
        parts: list[Motion] = []
        state = decoder.start()
        for code in codes:
            part, state = decoder.decode([code], state)
            parts.append(part)
        got = join(parts)
        distances.append(np.linalg.norm(got.root_positions_m - expected.root_positions_m, axis=-1).max())
        angles.append(_angles_deg(got.joint_rotations, expected.joint_rotations).max())
        frames += got.num_frames
    return float(np.max(distances)), float(np.max(angles)), frames


def check_parity(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    reference: MotionDecoder,
    bundle: Path,
    manifest: Manifest,
    provider: str,
    num_positions: int,
) -> Parity:
    """Compare both graphs of a bundle that has no manifest yet.

    Raises:
        ParityError: A difference is beyond its tolerance.
    """
    engine = Engine(bundle, manifest.language_model, provider)
    decoder = Decoder(bundle, manifest, provider)
    tolerated = manifest.parity
    difference, agreements, replies = measure_language_model(model, tokenizer, engine, manifest, num_positions)
    random = np.random.default_rng(0)
    agreement = float(agreements.mean())
    replies = [codes for codes in replies if codes]
    replies.append(random.integers(manifest.tokens.num_codes, size=64).tolist())
    distance_m, angle_deg, num_frames = measure_motion_decoder(reference, decoder, manifest, replies)
    parity = Parity(
        provider=engine.provider,
        max_logit_difference=difference,
        max_logit_difference_tolerance=tolerated.max_logit_difference_tolerance,
        argmax_agreement=agreement,
        min_argmax_agreement=tolerated.min_argmax_agreement,
        num_positions=len(agreements),
        max_root_difference_m=distance_m,
        max_root_difference_tolerance_m=tolerated.max_root_difference_tolerance_m,
        max_rotation_difference_deg=angle_deg,
        max_rotation_difference_tolerance_deg=tolerated.max_rotation_difference_tolerance_deg,
        num_frames=num_frames,
    )
    for what, measured, allowed in (
        ("logits differ by", difference, parity.max_logit_difference_tolerance),
        ("likeliest tokens differ for a share of", 1 - agreement, 1 - parity.min_argmax_agreement),
        ("roots differ by metres", distance_m, parity.max_root_difference_tolerance_m),
        ("rotations differ by degrees", angle_deg, parity.max_rotation_difference_tolerance_deg),
    ):
        logger.info("parity on %s: %s %.2g, allowed %.2g", engine.provider, what, measured, allowed)
        if not measured <= allowed:
            raise ParityError(f"{bundle}: {what} {measured:.3g}, allowed {allowed:.3g}; no manifest was written")
    return parity


def _write_reply(
    engine: Engine, manifest: Manifest, prompt: list[int], seed: int
) -> tuple[list[int], NDArray[np.float32], list[int]]:
    """Sample a reply within the grammar; its tokens, the logits before each of them, and its codes."""
    sampler, parser = Sampler(seed, temperature=1.0, top_p=1.0), ReplyParser(manifest.tokens)
    rows: list[NDArray[np.float32]] = []

    def choose(logits: NDArray[np.float32]) -> int:
        rows.append(logits.copy())
        return sampler.draw(logits, parser.allowed())

    written: list[int] = []
    for token_id in engine.generate(prompt, choose, threading.Event()):
        written.append(token_id)
        parser.feed(token_id)
        if parser.place is Place.DONE:
            break
    return written, np.stack(rows), parser.codes


def _angles_deg(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angles between unit quaternions, also tiny ones, [..., 4] -> [...]."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    chord = np.minimum(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.degrees(4 * np.arcsin(np.minimum(chord / 2, 1)))
