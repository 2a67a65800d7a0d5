import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from python_core.clips.clip import mirror_text
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips, read_prepared
from python_core.evaluators.evaluator_checkpoint import LoadedEvaluator
from python_core.evaluators.retrieval import Swaps, measure_retrieval, measure_swaps
from python_core.evaluators.text_motion_samples import PairSource, beat_samples


@pytest.fixture
def prepared(prepared_folder: Path) -> PreparedClips:
    return read_prepared(prepared_folder)


def train(prepared: PreparedClips) -> list[PreparedClip]:
    return prepared.split("train")


def test_no_caption_of_a_batch_is_said_of_another_of_its_motions(prepared: PreparedClips):
    torch.manual_seed(0)
    clips = train(prepared)
    source = PairSource(prepared, clips, twins=0.5)
    sizes = []
    for _ in range(30):
        pairs = source.draw(8)
        sizes.append(len(pairs))
        for pair in pairs:
            assert pair.rows.shape[0] % 4 == 0
            # Where the rows come from, by their bytes.
            owners = [clip for clip in clips if pair.rows.tobytes() in np.array(prepared.features(clip)).tobytes()]
            assert any(pair.caption in clip.captions for clip in owners)
            others = [other.caption for other in pairs if other is not pair]
            assert not any(caption in clip.captions for clip in owners for caption in others)
    # Walk, circle, squat and wave, and the mirrored circle and wave.
    assert max(sizes) == 6


def test_a_mirrored_twin_says_the_mirrored_caption(prepared: PreparedClips):
    torch.manual_seed(1)
    waves = [clip for clip in train(prepared) if any("wave" in caption for caption in clip.captions)]
    assert len(waves) == 2
    one, other = PairSource(prepared, waves, twins=1.0).draw(2)
    assert other.caption == mirror_text(one.caption) != one.caption
    assert not np.array_equal(one.rows[:40], other.rows[:40])


def test_the_same_seed_draws_the_same_pairs(prepared: PreparedClips):
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        source = PairSource(prepared, train(prepared))
        drawn.append([(pair.caption, pair.rows.tobytes()) for pair in source.draw(5)])
    assert drawn[0] == drawn[1]


def test_beats_are_the_rows_of_their_time(prepared: PreparedClips):
    clip = dataclasses.replace(
        train(prepared)[0], source=COMPOSED, num_rows=60, plan="1. walk forward, 1.0 s 2. sit, 0.4 s 3. wave, 1.6 s"
    )
    samples = beat_samples([clip, dataclasses.replace(clip, plan="1. walk, 3.0 s")], 20.0)
    # The second is shorter than a beat that shows what it is.
    assert [(sample.captions[0], sample.first_row, sample.num_rows) for sample in samples] == [
        ("walk forward", 0, 20),
        ("wave", 28, 32),
    ]


def test_windows_have_the_wanted_length_and_too_long_ones_are_an_error(prepared: PreparedClips):
    torch.manual_seed(0)
    source = PairSource(prepared, train(prepared))
    assert source.draw_rows(5, 32).shape == (5, 32, 263)
    with pytest.raises(ValueError, match="no clip has 500 rows"):
        source.draw_rows(5, 500)


@dataclasses.dataclass
class Knowing:
    """An evaluator that knows some captions' motions, by the sum of their rows, and puts all else far away."""

    places: dict[str | float, float]

    def embed_texts(self, captions):
        return np.array([[self.places.get(caption, 99.0)] for caption in captions], np.float32)

    def embed_motions(self, clips):
        return np.array([[self.places[float(clip.astype(np.float64).sum())]] for clip in clips], np.float32)


def test_ranks_are_counted_within_pools(prepared: PreparedClips):
    clips = [clip for clip in train(prepared) if not clip.clip_id.startswith("M")]
    places: dict[str | float, float] = {}
    # Motions at 0, 1, 2, 3. Captions lie at their motion, but those of the second a little beyond the third.
    for number, clip in enumerate(clips):
        places[float(np.array(prepared.features(clip)).astype(np.float64).sum())] = float(number)
        places |= {caption: float(number) if number != 1 else 2.2 for caption in clip.captions}
    measured = measure_retrieval(LoadedEvaluator(Knowing(places), "euclidean"), prepared, clips, seed=1)
    # From 2.2, motions 2 and 3 are nearer than motion 1.
    assert measured is not None
    assert (measured.pool, measured.num_pools) == (4, 1)
    assert (measured.r_at_1, measured.r_at_2, measured.r_at_3) == (0.75, 0.75, 1.0)
    assert measured.pair_distance == pytest.approx(1.2 / 4)
    pairs = measure_retrieval(LoadedEvaluator(Knowing(places), "euclidean"), prepared, clips, seed=1, pool=2)
    assert pairs is not None
    assert (pairs.pool, pairs.num_pools) == (2, 2)
    assert measure_retrieval(LoadedEvaluator(Knowing(places), "euclidean"), prepared, clips[:1], seed=1) is None


def test_swapped_captions_are_counted_where_there_are_any(prepared: PreparedClips):
    clips = [clip for clip in train(prepared) if not clip.clip_id.startswith("M")]
    places: dict[str | float, float] = {}
    for clip in clips:
        places[float(np.array(prepared.features(clip)).astype(np.float64).sum())] = 0.0
        places |= dict.fromkeys(clip.captions, 0.0)
    places["a person waves the left hand."] = 0.0
    measured = measure_swaps(LoadedEvaluator(Knowing(places), "euclidean"), prepared, clips)
    # Sides: "in a circle to the left" and two captions of waving, of which one is as near swapped as true.
    assert (measured.num_sides, measured.num_order, measured.order) == (3, 0, None)
    assert measured.sides == pytest.approx(2 / 3)
    assert measured.all == pytest.approx(2 / 3)
    assert Swaps(0, None, 0, None).all is None
    assert Swaps(1, 1.0, 3, 0.0).all == 0.25
