"""Compositions of the clips that `prepare` has made, a few at a time: the piece of it that one worker does last."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from python_core.clips.clip import Clip
from python_core.clips.preparation import (
    Prepared,
    Rules,
    made_of,
    mirror_clip,
    one_thread,
    read_shard,
    read_shard_rows,
    shard_path,
    write_shard,
)
from python_core.clips.prepared import COMPOSED
from python_core.clips.takes import is_mirrored_copy
from python_core.composed_motion import CompositionError
from python_core.composition import MAX_ATTEMPTS, Pool
from python_core.features import canonical_joints, exact_features

SHARD_COMPOSITIONS = 32


@dataclass(frozen=True, kw_only=True)
class ComposedShard:
    """Compositions that are made in one go, of the train split without its mirrored copies.

    Where a composition is mirrored, its plan and captions are too, as those of every other clip.
    """

    number: int
    """Its place among all shards."""
    num_made_of: int
    """The shards with smaller numbers that hold recorded clips."""
    size: int
    """Compositions that are wanted."""
    first_draw: int
    """Draws are numbered over all shards, so that each composes something else."""
    seed: int

    def write(self, rules: Rules, folder: Path) -> None:
        """Compose, and keep it in the folder of the other shards.

        Raises:
            ValueError: Fewer than 2 clips can be composed.
        """
        with one_thread():
            write_shard(shard_path(folder, self.number), *self._compose(rules, folder))

    def _compose(self, rules: Rules, folder: Path) -> tuple[Prepared, list[NDArray[np.float32]]]:
        written_ns = shard_path(folder, 0).stat().st_mtime_ns
        pool = _open_pool(folder, self.num_made_of, rules.frame_rate_hz, written_ns)
        prepared, rows = Prepared(), []
        if self.first_draw == 0:
            prepared.rejected += pool.skipped
        made: set[str] = set()
        for draw in range(self.first_draw, self.first_draw + self.size * MAX_ATTEMPTS):
            if len(made) == self.size:
                break
            try:
                recipe = pool.draw(self.seed, draw)
                if made_of(recipe.clip_id) in made:
                    raise CompositionError("made before", recipe.clip_id)
                clip = replace(pool.make(recipe), source=COMPOSED)
            except CompositionError as error:
                prepared.rejected[error.reason] += 1
                continue
            if len(clip.joints_m) < rules.min_frames:
                prepared.rejected[f"shorter than {rules.min_frames} frames"] += 1
                continue
            made.add(made_of(clip.clip_id))
            for version in (clip, mirror_clip(clip)) if rules.mirror else (clip,):
                found = exact_features(canonical_joints(version.joints_m), version.frame_rate_hz)
                prepared.add(version, "train", len(found), mirrored=version is not clip)
                rows.append(found)
        return prepared, rows


def plan_compositions(num: int, num_made_of: int, seed: int) -> tuple[ComposedShard, ...]:
    """Shards for so many compositions, after so many of recorded clips."""
    return tuple(
        ComposedShard(
            number=num_made_of + first // SHARD_COMPOSITIONS,
            num_made_of=num_made_of,
            size=min(SHARD_COMPOSITIONS, num - first),
            first_draw=first * MAX_ATTEMPTS,
            seed=seed,
        )
        for first in range(0, num, SHARD_COMPOSITIONS)
    )


@lru_cache(maxsize=1)
def _open_pool(folder: Path, num_shards: int, frame_rate_hz: float, written_ns: int) -> Pool:
    """Clips that were written at another time are another pool."""
    from python_core.reasoning.planner import Planner

    clips: dict[str, Clip] = {}
    for path in (shard_path(folder, number) for number in range(num_shards)):
        prepared, rows = read_shard(path), read_shard_rows(path)
        for clip in prepared.clips:
            if clip.split != "train" or clip.clip_id in prepared.mirrored or clip.clip_id in clips:
                continue
            found = rows[clip.first_row : clip.first_row + clip.num_rows]
            clips[clip.clip_id] = clip.as_clip(found, frame_rate_hz)
    # Mirrored copies that their folder brought itself are none of our making.
    return Pool([clip for clip in clips.values() if not is_mirrored_copy(clip.clip_id, clips)], Planner())
