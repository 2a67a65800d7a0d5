import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from python_core.clips.prepared import read_prepared
from python_core.composed_motion import CompositionError
from python_core.composition import MAX_ATTEMPTS, Pool
from python_core.reasoning.planner import Planner
from python_core.stages import prepare

NUM = 3


def test_compositions_that_are_rejected_are_counted_by_reason_in_the_report(clips_folder: Path, tmp_path: Path):
    config = replace(prepare.PRESETS["tiny"], clips=(clips_folder,), out=tmp_path, mirror=False, compositions=NUM)
    prepare.run(config)
    prepared = read_prepared(tmp_path)
    composed = [clip.clip_id for clip in prepared.clips if clip.source == "composed"]
    # The same draws again, by hand.
    recorded = [clip for clip in prepared.split("train") if clip.source != "composed"]
    clips = [clip.as_clip(prepared.features(clip), prepared.frame_rate_hz) for clip in recorded]
    pool, made = Pool(clips, Planner()), []
    rejected = Counter(pool.skipped)
    for draw in range(NUM * MAX_ATTEMPTS):
        if len(made) == NUM:
            break
        try:
            recipe = pool.draw(config.seed, draw)
            if recipe.clip_id.rpartition("@")[0] in {clip_id.rpartition("@")[0] for clip_id in made}:
                rejected["made before"] += 1
            else:
                made.append(pool.make(recipe).clip_id)
        except CompositionError as error:
            rejected[error.reason] += 1
    assert composed == made
    assert json.loads((tmp_path / "report.json").read_text())["composed"] == {
        "num_clips": len(made),
        "rejected": dict(rejected),
    }
    # Of `check_quality`.
    assert rejected["hurries at the seam"] + rejected["poor foot_skate_m_s"] > 0, rejected
