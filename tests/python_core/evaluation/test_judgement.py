import numpy as np
import pytest

from python_core.contract.motion import Motion
from python_core.evaluation.bootstrap import draw_weights
from python_core.evaluation.generation import Reply
from python_core.evaluation.judgement import Judged, bootstrap_scores, judged_features, measure_motions, score
from python_core.evaluation.long_sequences import (
    SpokenSequence,
    boundaries,
    draw_windows,
    frame_jerk,
    score_transitions,
    windows_at,
)
from python_core.evaluation.metrics import draw_pools
from python_core.features import exact_features


@pytest.fixture(scope="module")
def judged() -> Judged:
    """Motions near their texts, one of them missing."""
    random = np.random.default_rng(1)
    real = random.normal(size=(96, 6))
    motions = real + 0.3 * random.normal(size=(96, 6))
    motions[5] = np.nan
    return Judged(texts=real, motions=motions, real=real, pools=draw_pools(None, 96, random))


def test_scores_of_the_real_motions_are_perfect_and_ours_are_not(judged):
    real = score(Judged(texts=judged.texts, motions=judged.real, real=judged.real, pools=judged.pools),
                 np.random.default_rng(1))  # fmt: skip
    ours = score(judged, np.random.default_rng(1))
    assert (real.r_at_1, real.mm_dist, real.diversity_from_real) == (1, 0, 0)
    assert real.fid == pytest.approx(0, abs=1e-9)
    assert 0.9 < ours.r_at_3 <= 95 / 96
    assert ours.mm_dist == pytest.approx(0.3 * np.sqrt(6), rel=0.1)
    assert ours.diversity_from_real > 0


def test_no_motion_at_all_has_no_distances(judged):
    empty = Judged(texts=judged.texts, motions=np.full((96, 6), np.nan), real=judged.real, pools=judged.pools)
    scores = score(empty, np.random.default_rng(1))
    assert scores.r_at_3 == 0
    assert np.isnan([scores.fid, scores.kid, scores.mm_dist, scores.diversity]).all()


def test_intervals_over_recordings_hold_the_value_and_draws_of_two_models_are_paired(judged):
    made_of = [[str(k % 24), str(k % 7)] for k in range(96)]
    weights = draw_weights(made_of, 40, seed=2)
    estimates, draws = bootstrap_scores([judged, judged], weights)
    assert {*estimates} == {"r_at_1", "r_at_2", "r_at_3", "mm_dist", "fid", "kid"}
    for name in ("r_at_1", "mm_dist"):
        assert estimates[name].low <= estimates[name].value <= estimates[name].high
    worse = Judged(texts=judged.texts, motions=judged.motions + 1, real=judged.real, pools=judged.pools)
    _, other = bootstrap_scores([worse], weights)
    assert (other["mm_dist"] > draws["mm_dist"]).all()


def test_intervals_of_both_distances_hold_their_value_where_few_recordings_stand_behind_many_texts():
    random = np.random.default_rng(4)
    recordings = random.normal(size=(16, 8))
    pairs = [(a, b) for a in range(16) for b in range(16) if a != b]
    real = np.array([recordings[a] + 0.5 * recordings[b] for a, b in pairs])
    pools = draw_pools(None, len(pairs), random)
    weights = draw_weights([[str(a), str(b)] for a, b in pairs], 100, seed=5)
    other = real + random.normal(size=real.shape)
    for motions in (real + 0.1 * random.normal(size=real.shape), 0.6 * other, other + 0.4):
        judged = Judged(texts=real, motions=motions, real=real, pools=pools)
        estimates, draws = bootstrap_scores([judged], weights)
        for name in ("fid", "kid"):
            assert estimates[name].low < estimates[name].value < estimates[name].high
        once = score(judged, np.random.default_rng(1))
        assert estimates["kid"].value == once.kid
        assert draws["fid"].min() >= 0


def test_features_of_a_motion_are_those_of_its_clip_with_one_more_row(smooth_motions):
    motion = smooth_motions[0]
    rows = judged_features(motion)
    expected = exact_features(motion.joint_positions_m(), motion.frame_rate_hz)
    assert len(rows) == motion.num_frames == len(expected) + 1
    # The heading is smoothed over the clip, so that one more frame moves the last ones a little.
    np.testing.assert_allclose(rows[:-60], expected[:-59], atol=1e-3)


def test_quality_is_a_mean_over_motions_that_are_long_enough(smooth_motions):
    motion = smooth_motions[0]
    short = Motion(motion.root_positions_m[:3], motion.joint_rotations[:3], motion.contacts[:3], 20.0)
    found = measure_motions([smooth_motions[0], smooth_motions[1], short])
    assert found is not None
    assert found.num_motions == 2
    assert measure_motions([short]) is None


def reply(num_codes: int) -> Reply:
    from python_core.contract.vocabulary import ReplyParser, TokenLayout

    layout = TokenLayout(0, 1, 2, 3, 4, 8, 1, 12, 13)
    return Reply((), ReplyParser(layout, codes=[0] * num_codes) if num_codes else None, "")


def test_segments_follow_each_other_and_a_malformed_reply_is_empty():
    sequence = SpokenSequence(replies=(reply(10), reply(0), reply(5)))
    assert len(sequence.codes) == 15
    assert sequence.frames == [(0, 40), (40, 40), (40, 60)]
    assert boundaries(sequence) == [40]


def test_a_transition_is_one_second_around_its_boundary():
    assert windows_at(60, [40], 20.0) == [(30, 50)]
    assert windows_at(60, [5, 40, 55], 20.0) == [(30, 50)]
    assert draw_windows(19, 20.0, np.random.default_rng(1)) == []
    ((first, end),) = draw_windows(30, 20.0, np.random.default_rng(1))
    assert first >= 0
    assert end == first + 20 <= 30


def test_jerk_of_a_jump_by_hand():
    # Standing, but for one frame 1 m higher: third differences of 1, 3, 3 and 1 m.
    rotations = np.tile(np.array([0, 0, 0, 1], dtype=np.float32), (20, 22, 1))
    root_m = np.tile(np.array([0, 0.9, 0], dtype=np.float32), (20, 1))
    root_m[10, 1] += 1
    motion = Motion(root_m, rotations, np.zeros((20, 4), dtype=np.bool_), 20.0)
    jerk = frame_jerk(motion, (0, 20))
    assert len(jerk) == 17
    np.testing.assert_allclose(jerk[6:12], [0, 1, 3, 3, 1, 0], atol=1e-5)
    embeddings = np.random.default_rng(2).normal(size=(4, 3))
    still = np.zeros(17)
    found = score_transitions(embeddings, [jerk, still], embeddings, [still, still], seed=1)
    assert found is not None
    assert found.peak_jerk_m == pytest.approx(1.5, abs=1e-5)
    assert found.area_under_jerk_m == pytest.approx(4, abs=1e-4)
    assert found.fid == pytest.approx(0, abs=1e-9)
