"""Whether a motion does what a plan says: which beats are in it, in which order, and for how long.

Beats are laid along the motion, in the plan's order, where they fit best: a search over all ways to cut it (dynamic
programming) for the least distance between the beats' texts and their windows. A beat is recovered if its window is
nearer to its text than to nearly all of the texts of other plans.

Windows are chosen to suit their texts, so that motions which have nothing to do with a plan recover some of its beats,
more of them the more windows and beats there are to choose from. `with_other_plans` measures how many: real motions
are held against plans of others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from python_core.contract.plan import Plan
from python_core.evaluation.metrics import distances
from python_core.evaluators.beat_captions import beat_caption
from python_core.evaluators.evaluator import Evaluator

CELL_ROWS = 8
"""Cuts are this many rows apart, 0.4 s."""
NUM_OTHERS = 31
"""Texts of other plans that a beat's text has to stand out from."""
AMONG_NEAREST = 3
"""A beat is recovered if fewer of the others are nearer to its window. Of a window that is not chosen to suit the text
that would be 3 in 32 by chance; of one that is, it is more.
"""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Where the beats of a plan are in a motion."""

    cuts: tuple[int, ...]
    """First cell of each beat and the end of the last."""
    distance: float
    """Mean over the motion."""


@dataclass(frozen=True, kw_only=True)
class PlanMeasures:
    """How a model follows plans."""

    num_plans: int
    recovered: float
    """Share of beats."""
    in_order: float | None
    """Share of plans of 2 beats or more that fit in their own order better than in any other; None without one."""
    followed: float
    """Share of plans all of whose beats are recovered, in their order."""
    duration_error_s: float
    """Mean difference between how long a beat takes and what the plan says."""


def align(apart: NDArray[np.floating]) -> Alignment:
    """Cut a motion into one window a beat.

    Args:
        apart: Distance of each beat to each window, from cell a to cell b, [beats, cells + 1, cells + 1]; only b > a
            is read.

    Raises:
        ValueError: Fewer cells than beats.
    """
    num_beats, num_cells = len(apart), apart.shape[1] - 1
    if num_cells < num_beats:
        raise ValueError(f"{num_beats} beats need {num_beats} cells or more, got {num_cells}")
    cells = np.arange(num_cells + 1)
    lengths = cells - cells[:, None]
    costs = np.where(lengths > 0, np.where(lengths > 0, apart, 0) * lengths, np.inf)
    best = np.where(cells == 0, 0.0, np.inf)
    came_from = []
    for beat in range(num_beats):
        through = best[:, None] + costs[beat]
        came_from.append(through.argmin(axis=0))
        best = through.min(axis=0)
    cuts = [num_cells]
    for places in reversed(came_from):
        cuts.append(int(places[cuts[-1]]))
    return Alignment(cuts=tuple(reversed(cuts)), distance=float(best[-1] / num_cells))


def measure_plans(
    judge: Evaluator,
    plans: Sequence[Plan],
    motions: Sequence[NDArray[np.float32] | None],
    frame_rate_hz: float,
    seed: int,
    other_texts: Sequence[str] = (),
) -> PlanMeasures:
    """Measure motions against plans.

    Args:
        judge: Its distances are Euclidean.
        plans: What is to be done.
        motions: Features of each, [F, D]; one that is missing, or has fewer cells than beats, follows nothing and has
            no duration error.
        frame_rate_hz: Frames a second.
        seed: Draws the texts that beats have to stand out from.
        other_texts: To draw from, besides the beats of the plans.

    Raises:
        ValueError: No plan, or too few other beats to compare with.
    """
    if not plans:
        raise ValueError("plan measures need at least one plan, got none")
    texts = sorted({beat.text for plan in plans for beat in plan.beats} | {*other_texts})
    embedded = dict(zip(texts, judge.embed_texts([beat_caption(text) for text in texts]), strict=True))
    random = np.random.default_rng(seed)
    num_recovered, followed, orders, errors_s = 0, [], [], []
    for plan, rows in zip(plans, motions, strict=True):
        own = [beat.text for beat in plan.beats]
        others = [text for text in texts if text not in own]
        if len(others) < NUM_OTHERS:
            raise ValueError(f"a beat is compared with {NUM_OTHERS} texts of other plans, got {len(others)}")
        others = [others[place] for place in random.permutation(len(others))[:NUM_OTHERS]]
        if rows is None or len(rows) // CELL_ROWS < len(own):
            followed.append(False)
            orders += [False] * (len(own) > 1)
            continue
        windows, places = _windows(judge, rows)
        apart = _by_window(distances(np.stack([embedded[text] for text in own]), windows), places)
        found = align(apart)
        recovered = []
        for beat, (start, end) in enumerate(zip(found.cuts, found.cuts[1:], strict=False)):
            window = windows[places[start, end]][None]
            away = distances(np.stack([embedded[text] for text in others]), window)[:, 0]
            recovered.append(bool((away <= apart[beat, start, end]).sum() < AMONG_NEAREST))
            # A motion rarely fills whole cells; the rest is the last beat's.
            end_row = len(rows) if beat == len(own) - 1 else end * CELL_ROWS
            errors_s.append(abs((end_row - start * CELL_ROWS) / frame_rate_hz - plan.beats[beat].duration_s))
        ordered = len({*own}) == 1 or _is_best_order(apart, own, found.distance)
        if len(own) > 1:
            orders.append(ordered)
        num_recovered += sum(recovered)
        followed.append(all(recovered) and ordered)
    return PlanMeasures(
        num_plans=len(plans),
        recovered=num_recovered / sum(len(plan.beats) for plan in plans),
        in_order=float(np.mean(orders)) if orders else None,
        followed=float(np.mean(followed)),
        duration_error_s=float(np.mean(errors_s)) if errors_s else float("nan"),
    )


def with_other_plans(plans: Sequence[Plan]) -> list[tuple[int, Plan]]:
    """Places of plans, each with the next plan that has as many beats and none in common with it; one that no other
    fits is left out.
    """
    texts = [{beat.text for beat in plan.beats} for plan in plans]
    found = []
    for place, plan in enumerate(plans):
        following = [(place + step) % len(plans) for step in range(1, len(plans))]
        fits = (k for k in following if len(plans[k].beats) == len(plan.beats) and not texts[k] & texts[place])
        if (other := next(fits, None)) is not None:
            found.append((place, plans[other]))
    return found


def _is_best_order(apart: NDArray[np.floating], texts: Sequence[str], distance: float) -> bool:
    """Whether no other order of the beats, one with other texts in turn, fits as well."""
    for order in permutations(range(len(texts))):
        differs = [texts[place] for place in order] != list(texts)
        if differs and align(apart[list(order)]).distance <= distance:
            return False
    return True


def _windows(judge: Evaluator, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Embeddings of all windows, [W, E], and which of them is that from cell a to b, [cells + 1, cells + 1]."""
    num_cells = len(rows) // CELL_ROWS
    places = np.full((num_cells + 1, num_cells + 1), -1, dtype=np.intp)
    starts, ends = np.triu_indices(num_cells + 1, k=1)
    places[starts, ends] = np.arange(len(starts))
    pieces = [rows[a * CELL_ROWS : b * CELL_ROWS] for a, b in zip(starts, ends, strict=True)]
    return judge.embed_motions(pieces), places


def _by_window(apart: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.float64]:
    """[beats, W] -> [beats, cells + 1, cells + 1]"""
    return np.where(places < 0, np.inf, apart[:, places])
