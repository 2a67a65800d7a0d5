"""The weights that do best on takes that are held out of training."""

from typing import Any

from torch import Tensor, nn

from python_core.evaluators.retrieval import Retrieval

Score = tuple[float, float]
"""Greater is better: R@3, and where that is the same, how near captions are to their motions, negative."""


class BestWeights:
    """Keeps the weights with the best held-out retrieval so far."""

    def __init__(self) -> None:
        self.step: int | None = None
        self._score: Score | None = None
        self._weights: dict[str, Tensor] = {}

    def offer(self, model: nn.Module, step: int, retrieval: Retrieval | None) -> None:
        """Keep the model's weights if they retrieve better than all before; the last, where nothing can be measured."""
        score = None if retrieval is None else (retrieval.r_at_3, -retrieval.pair_distance)
        if score is None or self._score is None or score > self._score:
            self.step, self._score = step, score
            self._weights = _copied(model)

    def put_into(self, model: nn.Module) -> dict[str, Tensor]:
        """Give the model the best weights; returns those that it had."""
        had = _copied(model)
        if self._weights:
            model.load_state_dict(self._weights)
        return had

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "score": self._score, "weights": self._weights}

    def load(self, state: dict[str, Any]) -> None:
        self.step, self._score, self._weights = state["step"], state["score"], state["weights"]


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
