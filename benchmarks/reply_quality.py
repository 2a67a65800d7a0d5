"""How good a bundle's replies are: python benchmarks/reply_quality.py BUNDLE PREPARED [--split val] [--replies 100]

Asks for motions with plans, one a caption in turn, and prints JSON: the share of replies that are complete, measures
of `quality` beside those of the clips that the captions belong to, durations against plans, time to the first frame.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path

import numpy as np

from bridge.request import MotionRequest
from bridge.stream import Chunk, Event, MotionModel, Planned, Summary
from python_core.clips.prepared import read_prepared
from python_core.contract.plan import PlanError
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.quality_thresholds import Verdict
from python_core.contract.vocabulary import ReplyError
from python_core.features import features_to_motion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--replies", type=int, default=100)
    arguments = parser.parse_args()
    model, prepared = MotionModel(arguments.bundle, "cpu"), read_prepared(arguments.prepared)
    model.warm_up()
    sampling = model.bundle.manifest.sampling
    pairs = [(clip, caption) for clip in prepared.split(arguments.split) for caption in clip.captions]
    order = np.random.default_rng(0).permutation(len(pairs))
    replies: list[QualityReport] = []
    sources: list[QualityReport] = []
    planned_s, lasted_s, first_frame_ms, beats = [], [], [], []
    malformed: list[str] = []
    for seed in range(arguments.replies):
        clip, caption = pairs[order[seed % len(pairs)]]
        request = MotionRequest(
            prompt=caption,
            seed=seed,
            reasoning=True,
            max_codes=50,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        started, first = time.monotonic(), None
        try:
            for event, came in asyncio.run(_timed(model, request)):
                if isinstance(event, Planned):
                    planned_s.append(event.plan.duration_s)
                    beats.append(len(event.plan.beats))
                elif isinstance(event, Chunk) and first is None:
                    first = came - started
                    first_frame_ms.append(first * 1000)
                elif isinstance(event, Summary):
                    replies.append(event.quality)
                    lasted_s.append(event.duration_s)
        except (PlanError, ReplyError) as error:
            malformed.append(str(error)[:100])
        sources.append(measure_quality(features_to_motion(prepared.features(clip), prepared.frame_rate_hz)))
    if not replies:
        raise SystemExit(f"all {len(malformed)} replies are malformed, the first: {malformed[0]}")
    print(
        json.dumps(
            {
                "replies": arguments.replies,
                "complete": len(replies),
                "malformed": malformed[:5],
                "beats_mean": float(np.mean(beats)),
                "planned_s_mean": float(np.mean(planned_s)),
                "lasted_s_mean": float(np.mean(lasted_s)),
                "first_frame_ms_p50": float(np.median(first_frame_ms)),
                "quality": _means(replies),
                "quality_of_source_clips": _means(sources),
            },
            indent=2,
        )
    )


async def _timed(model: MotionModel, request: MotionRequest) -> list[tuple[Event, float]]:
    """Events, and when they came."""
    return [(event, time.monotonic()) async for event in model.perform(request)]


def _means(reports: list[QualityReport]) -> dict[str, float]:
    """Means of all measures and of the score, and the share of each verdict."""
    names = [*vars(reports[0]), "score"]
    means = {name: round(float(np.mean([getattr(r, name) for r in reports])), 4) for name in names}
    return means | {v.value: round(sum(r.verdict is v for r in reports) / len(reports), 4) for v in Verdict}


if __name__ == "__main__":
    main()
