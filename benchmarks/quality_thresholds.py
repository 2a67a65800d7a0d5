"""Where the limits of a verdict come from: python benchmarks/quality_thresholds.py PREPARED

Measures the clips of train and val, without mirrored copies and compositions. Prints percentiles of each measure, the
limits that follow beside those in `quality_thresholds`, and how the clips do by them, source by source. Takes seconds
for an hour of clips.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips, read_prepared
from python_core.contract.motion import CONTACT_THRESHOLD, Motion
from python_core.contract.quality import QualityReport, measure_joints, measure_quality
from python_core.contract.quality_thresholds import THRESHOLDS, Verdict
from python_core.contract.skeleton import BODY_22
from python_core.features import feature_slices, features_to_joints, origin
from python_core.pose_solver import PoseSolver

PERCENTILES = (10, 50, 75, 90, 95, 99, 100)
GOOD_PERCENTILE, FAIR_PERCENTILE = 90, 99
FAIR_PERCENTILES = {"float_m": 95}
"""1 clip in 25 climbs on what is not in the clip, or hovers: that much is not fair."""
OWN_LIMITS = ("penetration_m", "bone_length_error_m")
"""Nothing in prepared clips, by construction."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    prepared = read_prepared(parser.parse_args().prepared)
    clips = [
        clip
        for clip in prepared.clips
        if clip.split in ("train", "val") and clip.source != COMPOSED and not clip.clip_id.startswith("M")
    ]
    recorded = list(motions(prepared, clips))
    reports = [measure_quality(motion) for motion in recorded]
    console = Console(width=120)
    console.print(
        f"{len(clips)} clips, {sum(clip.num_rows for clip in clips) / prepared.frame_rate_hz / 60:.0f} minutes"
    )
    console.print(_distribution(reports))
    console.print(_limits(reports))
    console.print(_verdicts(clips, reports))
    good = [motion for motion, report in zip(recorded, reports, strict=True) if report.verdict is Verdict.GOOD]
    console.print(_damaged(good[::5]))


def motions(prepared: PreparedClips, clips: list[PreparedClip]) -> Iterator[Motion]:
    """The clips as motions. Rotations of all are solved at once: a solver call for each takes minutes."""
    with torch.no_grad():
        joints = []
        for clip in clips:
            features = torch.from_numpy(np.array(prepared.features(clip)))[None]
            joints.append(features_to_joints(features, origin(1, features))[0][0])
        roots, rotations = PoseSolver().float()(torch.cat(joints))
    part, start = feature_slices(BODY_22)["foot_contacts"], 0
    for clip in clips:
        end = start + clip.num_rows
        contacts = np.asarray(prepared.features(clip)[:, part] > CONTACT_THRESHOLD)
        yield Motion(roots[start:end].numpy(), rotations[start:end].numpy(), contacts, prepared.frame_rate_hz)
        start = end


def _distribution(reports: list[QualityReport]) -> Table:
    table = Table("measure", *(f"{percentile}%" for percentile in PERCENTILES), title="percentiles")
    for name in vars(reports[0]):
        table.add_row(name, *(f"{_percentile(reports, name, percentile):.4g}" for percentile in PERCENTILES))
    return table


def _limits(reports: list[QualityReport]) -> Table:
    table = Table("measure", "good", "fair", "in the code", title="limits that follow")
    for name, threshold in THRESHOLDS.items():
        in_code = f"{threshold.good:g}, {threshold.fair:g}"
        if name in OWN_LIMITS:
            table.add_row(name, "our own", "our own", in_code)
            continue
        fair_percentile = FAIR_PERCENTILES.get(name, FAIR_PERCENTILE)
        good = _rounded_up(_percentile(reports, name, GOOD_PERCENTILE))
        fair = _rounded_up(_percentile(reports, name, fair_percentile))
        same = math.isclose(good, threshold.good) and math.isclose(fair, threshold.fair)
        table.add_row(name, f"{good:g}", f"{fair:g}", in_code if same else f"{in_code}: differs")
    return table


def _verdicts(clips: list[PreparedClip], reports: list[QualityReport]) -> Table:
    table = Table("source", "clips", *(verdict.value for verdict in Verdict), "why not good", title="verdicts")
    for source in ["all", *sorted({clip.source for clip in clips})]:
        chosen = [report for clip, report in zip(clips, reports, strict=True) if source in ("all", clip.source)]
        table.add_row(source, *_row(chosen))
    return table


def _row(reports: list[QualityReport]) -> list[str]:
    """How many, the share of each verdict, and the three most frequent reasons of those that are not good."""
    counts = Counter(report.verdict for report in reports)
    reasons = Counter(report.weakest_measure for report in reports if report.verdict is not Verdict.GOOD)
    shares = [f"{counts[verdict] / len(reports):.0%}" for verdict in Verdict]
    return [str(len(reports)), *shares, ", ".join(f"{name} {count}" for name, count in reasons.most_common(3))]


def _damaged(good: list[Motion]) -> Table:
    """What becomes of good clips when they are damaged on purpose: the measures have to see it."""
    chance = np.random.default_rng(0)
    up, forward = np.array([0, 1, 0], np.float32), np.array([0, 0, 1], np.float32)

    def places(joints_m: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.arange(len(joints_m))[:, None, None]

    damages: dict[str, Callable[[NDArray[np.float32]], NDArray[np.floating]]] = {
        "nothing": lambda joints_m: joints_m,
        "slides by 0.3 m/s": lambda joints_m: joints_m + places(joints_m) * 0.3 / 20 * forward,
        "6 cm into the floor": lambda joints_m: joints_m - 0.06 * up,
        "hovers at 10 cm": lambda joints_m: joints_m + 0.1 * up,
        "trembles by 1 cm": lambda joints_m: joints_m + chance.normal(scale=0.01, size=joints_m.shape),
        "jumps by 1 m once": lambda joints_m: joints_m + (places(joints_m) >= len(joints_m) // 2) * forward,
        "every other frame twice": lambda joints_m: joints_m[np.arange(len(joints_m)) // 2 * 2],
    }
    table = Table("damage", "clips", *(verdict.value for verdict in Verdict), "why", title="good clips, damaged")
    for damage, apply in damages.items():
        reports = [
            measure_joints(apply(motion.joint_positions_m()).astype(np.float32), motion.contacts, motion.frame_rate_hz)
            for motion in good
        ]
        table.add_row(damage, *_row(reports))
    return table


def _percentile(reports: list[QualityReport], name: str, percentile: float) -> float:
    return float(np.percentile([getattr(report, name) for report in reports], percentile))


def _rounded_up(value: float) -> float:
    """To two digits, upward, so that the clip at the percentile is within the limit."""
    digits = 1 - math.floor(math.log10(value))
    return round(math.ceil(value * 10**digits) / 10**digits, digits)


if __name__ == "__main__":
    main()
