"""How well a tokenizer gives clips back: whole clips, encoded and decoded as a stream would be, judged by joints.

mpjpe_mm             mean distance of joints with the roots put in one place
global_mpjpe_mm      with the drift of the root; clips of LONG_CLIP_S or more
contact_speed_ratio  speed of feet where the source has contact, over the source's own
jerk_ratio           over the source's own
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from python_core.contract.motion import Motion
from python_core.contract.quality import contact_foot_speed, jerk
from python_core.contract.skeleton import BODY_22
from python_core.contract.vocabulary import CodebookSize
from python_core.motion_tokenizer import Reading

LONG_CLIP_S = 5.0
MIN_CLIPS = 5
"""A source with fewer clips has no row of its own."""


@dataclass(frozen=True, kw_only=True)
class TokenizerMeasures:
    """Means over clips; speeds and jerks are sums over clips before they are divided."""

    num_clips: int
    mpjpe_mm: float
    global_mpjpe_mm: float | None
    """None where no clip is long enough."""
    contact_speed_ratio: float
    jerk_ratio: float


def measure_readings(readings: Sequence[Reading], sources: Sequence[str]) -> dict[str, TokenizerMeasures]:
    """Measures of all clips, `all`, and of each source with MIN_CLIPS or more; `sources` are the clips'."""
    rows = [_row(reading) for reading in readings]
    groups = {"all": rows}
    for source in sorted(set(sources)):
        of_source = [row for row, its_source in zip(rows, sources, strict=True) if its_source == source]
        if len(of_source) >= MIN_CLIPS:
            groups[source] = of_source
    return {name: _summary(group) for name, group in groups.items()}


def entries_in_use(codes: Sequence[int], codebook: CodebookSize) -> list[float]:
    """Share of each level's entries that come up at least once."""
    chosen = np.array([codebook.entries(code) for code in codes]).reshape(-1, codebook.num_levels)
    return [round(len(np.unique(level)) / codebook.level_size, 4) for level in chosen.T]


@dataclass(frozen=True)
class _Row:
    error_m: float
    global_error_m: float | None
    contact_speed: float
    source_contact_speed: float
    jerk: float
    source_jerk: float


def _row(reading: Reading) -> _Row:
    long = reading.source.duration_s >= LONG_CLIP_S
    contact_speed, jerk_sum = _sums(reading.decoded, reading.source)
    source_contact_speed, source_jerk_sum = _sums(reading.source, reading.source)
    return _Row(
        error_m=reading.joint_error_m,
        global_error_m=reading.global_error_m if long else None,
        contact_speed=contact_speed,
        source_contact_speed=source_contact_speed,
        jerk=jerk_sum,
        source_jerk=source_jerk_sum,
    )


def _summary(rows: Sequence[_Row]) -> TokenizerMeasures:
    errors = [row.global_error_m for row in rows if row.global_error_m is not None]
    return TokenizerMeasures(
        num_clips=len(rows),
        mpjpe_mm=round(1000 * float(np.mean([row.error_m for row in rows])), 1),
        global_mpjpe_mm=round(1000 * float(np.mean(errors)), 1) if errors else None,
        contact_speed_ratio=_ratio(rows, "contact_speed"),
        jerk_ratio=_ratio(rows, "jerk"),
    )


def _ratio(rows: Sequence[_Row], name: str) -> float:
    source = sum(getattr(row, f"source_{name}") for row in rows)
    return round(sum(getattr(row, name) for row in rows) / max(source, 1e-9), 3)


def _sums(motion: Motion, source: Motion) -> tuple[float, float]:
    """`contact_foot_speed` where the source has contact, and `jerk`: the means of `quality.py` times the number of
    steps that they are of, so that a clip counts by its length.
    """
    joints_m = motion.joint_positions_m().astype(np.float64)
    speed_m_s = contact_foot_speed(joints_m[:, BODY_22.foot_joints], source.contacts, motion.frame_rate_hz)
    return speed_m_s * float(source.contacts[:-1].sum()), jerk(joints_m, motion.frame_rate_hz) * (motion.num_frames - 3)
