from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from python_core.clips.prepared import read_prepared
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
