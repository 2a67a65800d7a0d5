import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from python_core.clips.clip import mirror_text
from python_core.clips.prepared import COMPOSED, PreparedClip, PreparedClips, read_prepared
from python_core.contract.skeleton import BODY_22
from python_core.evaluators.beat_captions import beat_caption
from python_core.evaluators.evaluator_checkpoint import LoadedEvaluator
from python_core.evaluators.retrieval import Swaps, measure_retrieval, measure_swaps
from python_core.evaluators.text_motion_samples import PairSource, beat_samples
from python_core.features import feature_slices


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


def test_a_clip_without_a_mirrored_copy_is_never_its_own_twin(prepared: PreparedClips):
    torch.manual_seed(1)
    wave = next(clip for clip in train(prepared) if any("wave" in caption for caption in clip.captions))
    # Not its mirrored copy, although it is called so.
    other = dataclasses.replace(wave, clip_id=f"M{wave.clip_id}", captions=("a person waves.",))
    for clips in ([wave], [dataclasses.replace(wave, clip_id="Mesh_wave")], [wave, other]):
        source = PairSource(prepared, clips, twins=1.0)
        for pair in [pair for _ in range(10) for pair in source.draw(4)]:
            assert "left" not in pair.caption
            assert pair.exchanged == ()


def joined(clip: PreparedClip, captions: tuple[str, ...], plan: str, clip_id: str = "J1+2@1.1") -> PreparedClip:
    return dataclasses.replace(
        clip, clip_id=clip_id, source=COMPOSED, take="1+2", captions=captions, plan=plan, num_rows=60
    )


def test_a_caption_is_as_often_true_as_it_is_exchanged(prepared: PreparedClips):
    torch.manual_seed(2)
    two = ("a person walks and then waves.", "someone walks before waving", "a person walks while waving")
    three = ("he walks, waves and then sits", "he walks, then waves, then sits")
    clips = [
        joined(train(prepared)[0], two, "1. walk, 1.6 s 2. wave, 1.4 s"),
        joined(train(prepared)[0], three, "1. walk, 1.0 s 2. wave, 1.0 s 3. sit, 1.0 s", "J1+2+3@1.2"),
    ]
    source = PairSource(prepared, clips, twins=0.25)
    # One at a time: of two clips alone, what is already in a batch would leave little choice.
    pairs = [pair for _ in range(3000) for pair in source.draw(1)]
    true = Counter(pair.caption for pair in pairs)
    exchanged = Counter(text for pair in pairs for text in pair.exchanged)
    for forwards, backwards in (
        ("a person walks and then waves.", "a person waves and then walks."),
        ("someone walks before waving", "someone walks after waving"),
        ("he walks, then waves, then sits", "he sits, then waves, then walks"),
    ):
        counts = [true[forwards], true[backwards], exchanged[forwards], exchanged[backwards]]
        assert min(counts) > 0.75 * max(counts) > 90, counts
    # What cannot be reversed exactly is never held against itself.
    assert true["he walks, waves and then sits"] > 100
    assert not any("walks, waves" in text or "waves, walks" in text or "while" in text for text in exchanged)


def test_an_order_twin_has_the_windows_of_the_beats_exchanged_and_is_in_the_same_batch(prepared: PreparedClips):
    torch.manual_seed(3)
    clip = joined(train(prepared)[0], ("walks and then waves.",), "1. walk, 1.6 s 2. wave, 1.4 s")
    source = PairSource(prepared, [clip], twins=1.0)
    rows = np.array(prepared.features(clip))
    turned = np.concatenate([rows[32:], rows[:32]])
    steps = feature_slices(BODY_22)["joint_velocities"]
    num_both = 0
    for _ in range(20):
        pairs = {pair.caption: pair for pair in source.draw(6)}
        if {"walks and then waves.", "waves and then walks."} <= pairs.keys():
            num_both += 1
            for caption, wanted in (("walks and then waves.", rows), ("waves and then walks.", turned)):
                found = pairs[caption].rows[:, steps]
                starts = range(len(wanted) - len(found) + 1)
                assert any(np.array_equal(found, wanted[k : k + len(found), steps]) for k in starts)
    assert num_both == 20


def test_what_means_the_same_is_not_twice_in_a_batch(prepared: PreparedClips):
    torch.manual_seed(4)
    walk, _, circle, *_ = train(prepared)
    # The composition calls the recording something that it is not called itself.
    plan = "1. strafe left at an angle, 1.6 s 2. go around, 1.4 s"
    one = joined(walk, ("strafes, then goes around",), plan, f"J{walk.clip_id}+{circle.clip_id}@1.1")
    other = dataclasses.replace(
        one, clip_id=f"J{walk.clip_id}+{circle.clip_id}@1.2", captions=("first this, then that",)
    )
    twice = dataclasses.replace(walk, clip_id="other", captions=("the person strafes",))
    called = dataclasses.replace(one, clip_id=f"Jother+{circle.clip_id}@1.3", captions=("third",))
    clips = (walk, circle, one, other, twice, called)
    source = PairSource(dataclasses.replace(prepared, clips=clips), clips)
    meanings = {
        "walk": {*walk.captions, *twice.captions, "strafe left at an angle", "a person strafe left at an angle"},
        "circle": {*circle.captions, "go around", "a person go around"},
        "both": {*one.captions, *other.captions, *called.captions},
    }
    num_drawn = 0
    for _ in range(30):
        captions = [pair.caption for pair in source.draw(6)]
        found = [next(name for name, known in meanings.items() if caption in known) for caption in captions]
        assert len(found) == len(set(found)), captions
        num_drawn += len(found)
    assert num_drawn > 60


def test_speed_and_noise_change_rows_but_not_their_meaning(prepared: PreparedClips):
    torch.manual_seed(5)
    clip = train(prepared)[0]
    lengths = set()
    for _ in range(20):
        rows = PairSource(prepared, [clip], speed=0.1).draw(1)[0].rows
        lengths.add(len(rows))
        assert len(rows) % 4 == 0
    # 63 rows, a tenth more or fewer, and at times 4 fewer.
    assert len(lengths) > 2
    assert lengths <= {52, 56, 60, 64, 68}
    noisy = PairSource(prepared, [clip], noise=0.1).draw(1)[0].rows
    plain = np.array(prepared.features(clip))
    apart = min(
        (np.abs(noisy - plain[k : k + len(noisy)]) / prepared.normalizer.std).mean()
        for k in range(len(plain) - len(noisy) + 1)
    )
    # The mean of the absolute value of a normal number is 0.8 of its deviation.
    assert apart == pytest.approx(0.08, rel=0.05)


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
    samples = beat_samples([clip, dataclasses.replace(clip, plan="1. walk, 3.0 s")])
    # The second is shorter than a beat that shows what it is.
    assert [(sample.captions, sample.first_row, sample.num_rows) for sample in samples] == [
        (("a person walk forward", "walk forward"), 0, 20),
        (("a person wave", "wave"), 28, 32),
    ]
    assert samples[0].captions[0] == beat_caption("walk forward")


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
