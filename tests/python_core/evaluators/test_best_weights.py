import dataclasses

import torch
from torch import nn

from python_core.evaluators.best_weights import BestWeights
from python_core.evaluators.retrieval import Retrieval

MEASURED = Retrieval(pool=10, num_pools=1, r_at_1=0.1, r_at_2=0.2, r_at_3=0.5, pair_distance=2.0)


def layer(value: float) -> nn.Module:
    one = nn.Linear(1, 1)
    nn.init.constant_(one.weight, value)
    return one


def test_the_weights_with_the_best_r_at_3_are_kept_and_ties_go_to_the_nearer_pairs():
    best = BestWeights()
    for step, (r_at_3, pair_distance) in enumerate([(0.5, 2.0), (0.7, 3.0), (0.7, 2.5), (0.7, 2.6), (0.6, 0.1)]):
        retrieval = dataclasses.replace(MEASURED, r_at_3=r_at_3, pair_distance=pair_distance)
        best.offer(layer(step), step, retrieval)
    again = BestWeights()
    again.load(best.state())
    for found in (best, again):
        model = layer(99)
        had = found.put_into(model)
        assert found.step == 2
        assert had["weight"].item() == 99
        assert model.state_dict()["weight"].item() == 2
    again.offer(layer(7), 7, dataclasses.replace(MEASURED, r_at_3=0.7, pair_distance=2.51))
    assert again.step == 2


def test_kept_weights_do_not_follow_the_model():
    best, model = BestWeights(), layer(1)
    best.offer(model, 1, MEASURED)
    nn.init.constant_(model.get_parameter("weight"), 5)
    best.put_into(model)
    assert model.get_parameter("weight").item() == 1


def test_without_held_out_clips_the_last_weights_are_taken():
    best, model = BestWeights(), layer(3)
    assert torch.equal(best.put_into(model)["weight"], model.get_parameter("weight"))
    for step in (1, 2):
        best.offer(layer(step), step, None)
    best.put_into(model)
    assert (best.step, model.get_parameter("weight").item()) == (2, 2)
