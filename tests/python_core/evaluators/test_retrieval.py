import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.clips.prepared import COMPOSED, read_prepared
from python_core.evaluators.evaluator_checkpoint import LoadedEvaluator
from python_core.evaluators.retrieval import measure_retrieval


class AllAlike:
    """Embeds everything in one place."""

    def embed_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(captions), 4), np.float32)

    def embed_motions(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.ones((len(clips), 4), np.float32)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_an_evaluator_that_embeds_all_alike_scores_as_guessing_does(
    prepared_folder: Path, distance: Literal["euclidean", "cosine"]
):
    prepared = read_prepared(prepared_folder)
    found = measure_retrieval(LoadedEvaluator(AllAlike(), distance), prepared, prepared.clips, seed=1)
    assert found is not None
    assert found.r_at_1 == pytest.approx(1 / found.pool)
    assert found.r_at_3 == pytest.approx(min(1, 3 / found.pool))


def test_compositions_of_the_same_recordings_are_never_in_one_pool(prepared_folder: Path):
    prepared = read_prepared(prepared_folder)
    walk, circle = prepared.clips[0], prepared.clips[2]
    one, other, turned = (
        dataclasses.replace(walk, clip_id=f"J{made_of}@1.{number}", source=COMPOSED, captions=(f"caption {number}",))
        for number, made_of in enumerate(
            [f"{walk.clip_id}+{circle.clip_id}", f"{walk.clip_id}+{circle.clip_id}", f"{circle.clip_id}+{walk.clip_id}"]
        )
    )
    alike = LoadedEvaluator(AllAlike(), "euclidean")
    assert measure_retrieval(alike, prepared, [one, other], seed=1) is None
    found = measure_retrieval(alike, prepared, [one, other, turned], seed=1)
    assert found is not None
    assert found.pool == 2
