"""The same inputs through torch and through the bridge's own sessions; an export that differs too much fails."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from bridge.decoder import Decoder, join
from bridge.depth_head import DepthHead, open_depth_head
from bridge.engine import Engine
from bridge.sampler import Sampler
from export.replies import WrittenReply
from python_core.contract.bundle import BundleError, LanguageModelParity, Manifest, MotionDecoderParity
from python_core.contract.motion import Motion
from python_core.contract.quality import measure_quality
from python_core.contract.vocabulary import Place, Position, ReplyParser, TokenLayout
from python_core.motion_decoder import MotionDecoder
from python_core.motion_model import IMPOSSIBLE, SpeaksMotion

logger = logging.getLogger(__name__)

LOGIT_TOLERANCE = 1e-3
TIE = 1e-4
"""Where torch's best logits are nearer to each other than this, any of them counts as the likeliest token."""
LANGUAGE_MODEL_LIMITS = {"fp32": (1.0, 1e-6), "fp16": (0.99, 1e-3), "int8": (0.97, 5e-3), "int4": (0.9, 0.05)}
"""Least share of equal likeliest tokens, largest mean divergence in nats."""
ROOT_TOLERANCES_M = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.05}
ROTATION_TOLERANCE_DEG = 0.01
"""For fp32; where weights are rounded, joints count."""
JOINT_TOLERANCES_M = {"fp32": 1e-4, "fp16": 0.005, "int8": 0.005}
"""Of the mean over joints and frames; of each joint in each frame for fp32."""
SCORE_LOSS = 0.02
"""How much worse the quality score of motions may be than torch's, on average."""


class ParityError(ValueError):
    """The graphs do not compute what the checkpoint computes; says by how much, and what was allowed."""


@torch.no_grad()
def check_language_model(
    model: SpeaksMotion, bundle: Path, manifest: Manifest, provider: str, replies: Sequence[WrittenReply],
    progress: Progress,
) -> LanguageModelParity:  # fmt: skip
    """Let torch and the session read the same replies, the session position by position as it serves.

    Raises:
        ParityError: A difference is beyond its tolerance.
        ProviderError: The provider does not load.
    """
    engine = Engine(bundle, manifest.language_model, provider)
    head = open_depth_head(bundle, manifest, engine.state_width, provider)
    differences, agreements, divergences = [], [], []
    for reply in progress.track(replies, description="parity of the language model"):
        expected = model(torch.tensor([reply.prompt + reply.reply])).logits[0, len(reply.prompt) - 1 : -1].float()
        found = torch.from_numpy(read_reply(engine, head, manifest.tokens, reply)).float()
        differences.append(float((expected - found).abs().max()))
        likeliest = expected.gather(-1, found.argmax(-1, keepdim=True))[:, 0]
        agreements.append(likeliest >= expected.max(-1).values - TIE)
        divergences.append(mean_divergence(expected, found))
    agreement, divergence = torch.cat(agreements), torch.cat(divergences)
    precision = manifest.language_model.precision
    least_agreement, most_divergence = LANGUAGE_MODEL_LIMITS[precision]
    parity = LanguageModelParity(
        num_tokens=len(agreement),
        max_logit_difference=max(differences),
        max_logit_difference_tolerance=LOGIT_TOLERANCE if precision == "fp32" else None,
        argmax_agreement=float(agreement.float().mean()),
        min_argmax_agreement=least_agreement,
        mean_kl=float(divergence.mean()),
        max_mean_kl=most_divergence,
    )
    disagreement = 1 - parity.argmax_agreement
    _hold("logits differ by", parity.max_logit_difference, parity.max_logit_difference_tolerance)
    _hold("likeliest tokens differ for a share of", disagreement, 1 - parity.min_argmax_agreement)
    _hold("next tokens diverge by nats", parity.mean_kl, parity.max_mean_kl)
    return parity


def mean_divergence(expected: Tensor, found: Tensor) -> Tensor:
    """Kullback-Leibler divergence of what logits `found` say from what `expected` says, nats, [N, V] -> [N]."""
    left, right = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return (left.exp() * (left - right)).sum(-1)


def read_reply(engine: Engine, head: DepthHead | None, layout: TokenLayout, reply: WrittenReply) -> NDArray[np.float32]:
    """The sessions' logits before each token of a reply, [L, V]."""
    positions = layout.fold(reply.reply)
    found = np.full((len(reply.reply), layout.vocabulary_size), IMPOSSIBLE, np.float32)
    num_positions = num_tokens = 0

    def choose(logits: NDArray[np.float32], state: NDArray[np.float32]) -> Position:
        nonlocal num_positions, num_tokens
        position = positions[num_positions]
        num_positions += 1
        found[num_tokens, : layout.num_spoken] = logits
        num_tokens += 1
        if head is not None and layout.is_of_code(position[0]):
            starts = layout.first_code + np.arange(layout.num_levels) * layout.level_size
            entries = np.array([position], np.int64) - starts
            for start, spoken in zip(starts[1:], head.logits(state[None], entries)[0], strict=True):
                found[num_tokens, start : start + layout.level_size] = spoken
                num_tokens += 1
        return position

    for _ in engine.generate(layout.fold(reply.prompt), choose):
        if num_positions == len(positions):
            break
    return found


def write_reply(
    engine: Engine, head: DepthHead | None, manifest: Manifest, prompt: Sequence[int], seed: int, max_codes: int
) -> list[int]:
    """Let the sessions write a reply with reasoning, by the grammar alone: no plan is drawn again, or says how long a
    motion is. Its codes.
    """
    sampling, layout = manifest.sampling, manifest.tokens
    sampler, parser = Sampler(seed, sampling.temperature, sampling.top_p), ReplyParser(layout)
    parser.feed(layout.think_open)
    of_reasoning = sampler.colder(sampling.reasoning_temperature)

    def choose(logits: NDArray[np.float32], state: NDArray[np.float32]) -> Position:
        allowed = parser.allowed_ranges()
        if parser.place is Place.MOTION and not parser.codes:
            allowed = tuple(ids for ids in allowed if layout.motion_close not in ids)
        token_ids = [(of_reasoning if parser.place is Place.REASONING else sampler).draw(logits, allowed)]
        if head is not None and layout.is_of_code(token_ids[0]):
            (entries,) = head.speak([state], [token_ids[0] - layout.first_code], [sampler])
            if isinstance(entries, BundleError):
                raise entries
            token_ids = layout.entry_ids([token_ids[0] - layout.first_code, *entries])
        for token_id in token_ids:
            parser.feed(token_id)
        return layout.fold(token_ids)[0]

    for _ in engine.generate(layout.fold([*prompt, layout.think_open]), choose):
        if parser.place is Place.DONE or len(parser.codes) == max_codes:
            break
    return parser.codes


def check_motion_decoder(
    reference: MotionDecoder, bundle: Path, manifest: Manifest, provider: str, series: Sequence[Sequence[int]],
    progress: Progress,
) -> MotionDecoderParity:  # fmt: skip
    """Decode whole clips by torch and code by code by the session.

    Raises:
        ParityError: A difference is beyond its tolerance.
        ProviderError: The provider does not load.
    """
    decoder = Decoder(bundle, manifest, provider)
    roots, rotations, joints, farthest, scores, expected_scores = [], [], [], [], [], []
    num_frames = 0
    for codes in progress.track(series, description="parity of the motion decoder"):
        (expected,) = reference.motions([codes], manifest.frame_rate_hz)
        found = decode_streamed(decoder, codes)
        num_frames += found.num_frames
        roots.append(np.linalg.norm(found.root_positions_m - expected.root_positions_m, axis=-1).max())
        rotations.append(angles_deg(found.joint_rotations, expected.joint_rotations).max())
        left, right = (motion.joint_positions_m() for motion in (found, expected))
        distances = np.linalg.norm((left - left[:, :1]) - (right - right[:, :1]), axis=-1)
        joints.append(distances.mean())
        farthest.append(distances.max())
        scores.append(measure_quality(found).score)
        expected_scores.append(measure_quality(expected).score)
    precision = manifest.motion_decoder.precision
    parity = MotionDecoderParity(
        num_frames=num_frames,
        max_root_difference_m=float(np.max(roots)),
        max_root_difference_tolerance_m=ROOT_TOLERANCES_M[precision],
        max_rotation_difference_deg=float(np.max(rotations)),
        max_rotation_difference_tolerance_deg=ROTATION_TOLERANCE_DEG if precision == "fp32" else None,
        mean_joint_difference_m=float(np.mean(joints)),
        mean_joint_difference_tolerance_m=JOINT_TOLERANCES_M[precision],
        score=float(np.mean(scores)),
        reference_score=float(np.mean(expected_scores)),
        max_score_loss=SCORE_LOSS,
    )
    _hold("roots differ by metres", parity.max_root_difference_m, parity.max_root_difference_tolerance_m)
    _hold(
        "rotations differ by degrees", parity.max_rotation_difference_deg, parity.max_rotation_difference_tolerance_deg
    )
    _hold("joints differ by metres", parity.mean_joint_difference_m, parity.mean_joint_difference_tolerance_m)
    _hold(
        "a joint differs by metres",
        float(np.max(farthest)),
        JOINT_TOLERANCES_M["fp32"] if precision == "fp32" else None,
    )
    _hold("the quality score is less by", parity.reference_score - parity.score, parity.max_score_loss)
    return parity


def decode_streamed(decoder: Decoder, codes: Sequence[int]) -> Motion:
    """Decode code by code."""
    parts: list[Motion] = []
    state = decoder.start()
    for code in codes:
        part, state = decoder.decode([code], state)
        parts.append(part)
    return join(parts)


def _hold(what: str, measured: float, allowed: float | None) -> None:
    if allowed is None:
        logger.info("parity: %s %.2g", what, measured)
        return
    logger.info("parity: %s %.2g, allowed %.2g", what, measured, allowed)
    if not measured <= allowed:
        raise ParityError(f"{what} {measured:.3g}, allowed {allowed:.3g}; no bundle was written, an old one stays")


def angles_deg(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Angles between unit quaternions, also tiny ones, [..., 4] -> [...]."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    chord = np.minimum(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.degrees(4 * np.arcsin(np.minimum(chord / 2, 1)))
