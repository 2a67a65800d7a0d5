"""How well an evaluator tells which motion a caption is about, on motions that were recorded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.clips.prepared import PreparedClip, PreparedClips
from python_core.evaluation.metrics import POOL_SIZE, hits_of_pool
from python_core.evaluators.evaluator import ROWS_PER_MOVEMENT
from python_core.evaluators.evaluator_checkpoint import LoadedEvaluator
from python_core.evaluators.meanings import Meaning, Meanings, plain_caption
from python_core.evaluators.swapped_captions import swap_order, swap_sides


@dataclass(frozen=True)
class Retrieval:
    """Shares of captions whose motion is among the nearest 1, 2 and 3 of a pool."""

    pool: int
    """Pairs in a pool, no two with a caption in common or with the same meaning."""
    num_pools: int
    r_at_1: float
    r_at_2: float
    r_at_3: float
    pair_distance: float
    """Mean distance of a caption to its motion."""


@dataclass(frozen=True)
class Swaps:
    """Shares of captions that are nearer to their motion than the same caption with something exchanged."""

    num_sides: int
    sides: float | None
    """None where no caption names a side."""
    num_order: int
    order: float | None

    @property
    def all(self) -> float | None:
        """Over both."""
        total = self.num_sides + self.num_order
        return None if not total else (self.num_sides * (self.sides or 0) + self.num_order * (self.order or 0)) / total


def measure_retrieval(
    loaded: LoadedEvaluator, prepared: PreparedClips, clips: Sequence[PreparedClip], seed: int, pool: int = POOL_SIZE
) -> Retrieval | None:
    """Rank motions for captions within pools of pairs.

    Each clip is taken at most once, with a caption drawn by the seed, and is in a pool with none that means the same;
    pools that do not fill up are left out. Where none fills up, the largest is taken; None where it has fewer than 2.
    """
    random = np.random.default_rng(seed)
    pools = _pools(clips, Meanings(prepared.clips), pool, random)
    if not pools:
        return None
    texts = loaded.evaluator.embed_texts([caption for members in pools for _, caption in members])
    motions = loaded.evaluator.embed_motions(
        [np.array(prepared.features(clip)) for members in pools for clip, _ in members]
    )
    hits, pair_distances, start = [], [], 0
    for members in pools:
        end = start + len(members)
        distances = loaded.distances(texts[start:end], motions[start:end])
        hits.append(hits_of_pool(distances))
        pair_distances.append(np.diag(distances))
        start = end
    shares = np.concatenate(hits).mean(axis=0)
    return Retrieval(
        pool=len(pools[0]),
        num_pools=len(pools),
        r_at_1=float(shares[0]),
        r_at_2=float(shares[1]),
        r_at_3=float(shares[2]),
        pair_distance=float(np.concatenate(pair_distances).mean()),
    )


def measure_swaps(loaded: LoadedEvaluator, prepared: PreparedClips, clips: Sequence[PreparedClip]) -> Swaps:
    """Compare each caption with itself with sides or order exchanged."""
    found: dict[str, list[tuple[int, str, str]]] = {"sides": [], "order": []}
    kept = [clip for clip in clips if clip.num_rows >= ROWS_PER_MOVEMENT]
    for number, clip in enumerate(kept):
        for caption in clip.captions:
            for name, swapped in (("sides", swap_sides(caption)), ("order", swap_order(caption))):
                if swapped is not None:
                    found[name].append((number, caption, swapped))
    used = sorted({number for items in found.values() for number, _, _ in items})
    motions = loaded.evaluator.embed_motions([np.array(prepared.features(kept[number])) for number in used])
    place = {number: row for row, number in enumerate(used)}
    shares: dict[str, float | None] = {}
    for name, items in found.items():
        if not items:
            shares[name] = None
            continue
        of = motions[[place[number] for number, _, _ in items]]
        true = _row_distances(loaded, loaded.evaluator.embed_texts([caption for _, caption, _ in items]), of)
        swapped = _row_distances(loaded, loaded.evaluator.embed_texts([other for _, _, other in items]), of)
        shares[name] = float((true < swapped).mean())
    return Swaps(len(found["sides"]), shares["sides"], len(found["order"]), shares["order"])


def _row_distances(
    loaded: LoadedEvaluator, texts: NDArray[np.float32], motions: NDArray[np.float32]
) -> NDArray[np.float64]:
    pairs = zip(texts, motions, strict=True)
    return np.array([loaded.distances(text[None], motion[None])[0, 0] for text, motion in pairs])


def _pools(
    clips: Sequence[PreparedClip], meanings: Meanings, size: int, random: np.random.Generator
) -> list[list[tuple[PreparedClip, str]]]:
    pools: list[list[tuple[PreparedClip, str]]] = []
    said: list[set[str | Meaning]] = []
    for place in random.permutation(len(clips)):
        clip = clips[place]
        if not clip.captions or clip.num_rows < ROWS_PER_MOVEMENT:
            continue
        says = {*map(plain_caption, clip.captions), *meanings.of_clip(clip)}
        caption = clip.captions[random.integers(len(clip.captions))]
        # The first pool that has room and says nothing of this clip.
        for members, taken in zip(pools, said, strict=True):
            if len(members) < size and not says & taken:
                break
        else:
            members, taken = [], set[str | Meaning]()
            pools.append(members)
            said.append(taken)
        members.append((clip, caption))
        taken |= says
    full = [members for members in pools if len(members) == size]
    if full:
        return full
    largest = max(pools, key=len, default=[])
    return [largest] if len(largest) > 1 else []
