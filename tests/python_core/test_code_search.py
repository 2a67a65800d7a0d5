from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from python_core.clips.prepared import read_prepared
from python_core.code_search import FOOT_STEP, ROOT, STEP, CodeSearch
from python_core.contract.skeleton import BODY_22
from python_core.features import Normalizer
from python_core.vqvae import Vqvae, VqvaeShape

SHAPE = VqvaeShape(width=16, code_width=8, level_size=4, num_levels=2)
NUM_CODES = SHAPE.codebook.num_codes


@pytest.fixture
def rows(prepared_folder: Path) -> NDArray[np.float32]:
    prepared = read_prepared(prepared_folder)
    return np.array(prepared.features(prepared.split("val")[0]))


@pytest.fixture
def normalizer(prepared_folder: Path) -> Normalizer:
    return read_prepared(prepared_folder).normalizer


@pytest.fixture
def model() -> Vqvae:
    torch.manual_seed(5)
    model = Vqvae(SHAPE).eval()
    for level in model.levels:
        level.get_buffer("vectors").normal_(std=3.0)
    return model


@torch.no_grad()
def cost(search: CodeSearch, rows: NDArray[np.float32], series: list[list[int]]) -> NDArray[np.float32]:
    """What series of codes cost a clip, worked out for whole clips at once."""
    num_frames = 4 * len(series[0])
    target = torch.from_numpy(search.normalizer.normalize(rows[:num_frames]))[None]
    wanted, standing = search.reconstruction.joints(target)[0], search.reconstruction.standing(target)
    decoded, _ = search.model.decode(torch.tensor(series), search.model.zero_states(len(series)))
    error = (search.reconstruction.joints(decoded)[0] - wanted).numpy()
    steps = np.diff(error, axis=1, prepend=np.zeros_like(error[:, :1]))
    of_feet = np.linalg.norm(steps[:, :, BODY_22.foot_joints], axis=-1) * standing.numpy()
    per_frame = (
        np.linalg.norm(error - error[:, :, :1], axis=-1).mean(-1)
        + ROOT * np.linalg.norm(error[:, :, 0], axis=-1)
        + STEP * np.linalg.norm(steps, axis=-1).mean(-1)
        + FOOT_STEP * of_feet.mean(-1)
    )
    return per_frame.reshape(len(series), -1, 4).mean(-1).sum(-1)


def test_with_room_for_every_series_it_finds_the_best(model: Vqvae, normalizer: Normalizer, rows: NDArray[np.float32]):
    search = CodeSearch(model, normalizer, beginnings=NUM_CODES**2, candidates=NUM_CODES, branches=SHAPE.level_size)
    every = [list(series) for series in product(range(NUM_CODES), repeat=3)]
    costs = cost(search, rows, every)
    (found,) = search.encode([rows[:12]])
    assert found == every[int(costs.argmin())]


def test_it_costs_less_than_the_nearest_codes(model: Vqvae, normalizer: Normalizer, rows: NDArray[np.float32]):
    nearest, searched = (
        CodeSearch(model, normalizer, beginnings, candidates, branches=4).encode([rows])[0]
        for beginnings, candidates in ((1, 1), (2, NUM_CODES))
    )
    nearest_cost, searched_cost = cost(CodeSearch(model, normalizer), rows, [nearest, searched])
    assert searched_cost < 0.95 * nearest_cost


def test_a_clip_gets_the_same_codes_alone_and_among_others(
    model: Vqvae, normalizer: Normalizer, rows: NDArray[np.float32]
):
    search = CodeSearch(model, normalizer)
    clips = [rows, rows[5:22], rows[:4], rows[9:]]
    assert search.encode(clips) == [search.encode([clip])[0] for clip in clips]


def test_frames_that_fill_no_code_are_left_out(model: Vqvae, normalizer: Normalizer, rows: NDArray[np.float32]):
    search = CodeSearch(model, normalizer)
    (found,) = search.encode([rows[:23]])
    assert len(found) == 5
    assert search.encode([rows[:20]]) == [found]
