"""Codes of clips, found once a run and kept as they come: the search takes longer than a few steps of training.

codes.jsonl in the run's folder has a clip a line. What a kill leaves unfinished is found anew; the rest is not.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from python_core.checkpoint import load_vqvae
from python_core.clips.preparation import follow_parent, one_thread
from python_core.clips.prepared import PreparedClip, read_prepared
from python_core.code_search import CodeSearch
from python_core.motion_tokenizer import MotionTokenizer
from python_core.whole_file import write_text

CODES = "codes.jsonl"
SHARD_CLIPS = 64
"""Clips that one worker encodes in one go."""
AT_ONCE_CPU = 8
"""Clips side by side on a CPU, which saves it half of the time."""

Series = list[list[int]]
"""Codes of one clip, read from each of its first frames on."""


def encode_once(
    clips: Sequence[PreparedClip], prepared: Path, vqvae: Path, shifts: int, candidates: int, out: Path, workers: int
) -> dict[str, Series]:
    """Codes of each clip, by its id, in the order of the clips. Their numbers do not depend on `workers`.

    Args:
        clips: Of the prepared folder.
        prepared: Folder that `prepare` wrote.
        vqvae: Checkpoint that `train-vqvae` wrote.
        shifts: Series of codes of a clip: from each of its first frames on.
        candidates: Codes that the search tries after each beginning.
        out: Folder of the run.
        workers: Processes that share the work on a CPU; 0 takes as many as there are cores. A GPU takes one.

    Raises:
        OSError: A worker was killed; what was found is kept.
    """
    path = out / CODES
    found = dict(read_codes(path))
    shards = [clips[first : first + SHARD_CLIPS] for first in range(0, len(clips), SHARD_CLIPS)]
    # Those of a shard are encoded side by side, which may change how they round; so a shard is whole or begun anew.
    todo = [shard for shard in shards if any(clip.clip_id not in found for clip in shard)]
    if not todo:
        # Other processes of the run may read the file now.
        return {clip.clip_id: found[clip.clip_id] for clip in clips}
    for shard in todo:
        for clip in shard:
            found.pop(clip.clip_id, None)
    # A line that a kill cut off would join with the next one.
    _rewrite(path, found)
    with Progress() as progress, path.open("a", encoding="utf-8") as file:
        task = progress.add_task("encode", total=len(clips), completed=len(found))
        for series in _encode_shards(todo, prepared, vqvae, shifts, candidates, workers):
            found |= series
            file.writelines(f"{json.dumps([clip_id, codes])}\n" for clip_id, codes in series.items())
            file.flush()
            progress.advance(task, len(series))
    return {clip.clip_id: found[clip.clip_id] for clip in clips}


def _encode_shards(
    shards: Sequence[Sequence[PreparedClip]], prepared: Path, vqvae: Path, shifts: int, candidates: int, workers: int
) -> Iterator[dict[str, Series]]:
    num_workers = 1 if torch.cuda.is_available() else min(workers or len(os.sched_getaffinity(0)), len(shards))
    if num_workers < 2:
        for shard in shards:
            yield _encode(shard, prepared, vqvae, shifts, candidates)
        return
    # Spawned, since a fork of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, follow_parent) as pool:
        running = [pool.submit(_encode, shard, prepared, vqvae, shifts, candidates) for shard in shards]
        try:
            for future in as_completed(running):
                yield future.result()
        except BrokenProcessPool as error:
            raise OSError(
                "a worker that encoded clips was killed, perhaps for want of memory; what was found is kept, run again "
                "with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _encode(
    clips: Sequence[PreparedClip], prepared: Path, vqvae: Path, shifts: int, candidates: int
) -> dict[str, Series]:
    opened = read_prepared(prepared)
    starts = [(clip, first) for clip in clips for first in range(shifts)]
    # A model draws weights before it loads them; a run that finds its codes made goes on with the same random numbers.
    with one_thread(), torch.random.fork_rng():
        tokenizer = _open(vqvae, candidates)
        codes = tokenizer.encode(
            [np.array(opened.features(clip)[first:]) for clip, first in starts],
            at_once=None if torch.cuda.is_available() else AT_ONCE_CPU,
        )
    series: dict[str, Series] = {clip.clip_id: [] for clip in clips}
    for (clip, _), found in zip(starts, codes, strict=True):
        if found:
            series[clip.clip_id].append(found)
    return series


@lru_cache(maxsize=1)
def _open(vqvae: Path, candidates: int) -> MotionTokenizer:
    model, normalizer, frame_rate_hz = load_vqvae(vqvae)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return MotionTokenizer(model, normalizer, frame_rate_hz, CodeSearch(model, normalizer, candidates=candidates))


def read_codes(path: Path) -> Iterator[tuple[str, Series]]:
    """Clips and their codes, of a file; a line that a kill cut off is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        clip_id, series = json.loads(line)
        yield clip_id, series


def _rewrite(path: Path, found: dict[str, Series]) -> None:
    write_text(path, "".join(f"{json.dumps([clip_id, series])}\n" for clip_id, series in found.items()))
