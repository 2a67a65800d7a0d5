"""The beats that there is a motion for, and which of them says most nearly what a text says.

A plan in these words says what the model can do: what it was never shown becomes the nearest that it was, in the
reasoning, where one can read and edit it. Near is what a sentence encoder says, among beats of the same sides and
direction, which such an encoder hardly tells apart.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from python_core.contract.plan import Beat
from python_core.evaluators.token_states import TokenStates

BATCH = 256
_SAME = (r"left", r"right", r"backwards?|back", r"clockwise", r"counterclockwise")
"""Words that both have, or neither."""
_OPPOSITE = (r"up|upwards?", r"down|downwards?")
"""Words of which one may not have the one and the other the other."""
_COUNTER = re.compile(r"\b(?:counter|anti)[ -]*clockwise\b")
"""As people and the planner write it, who makes three words of "counter-clockwise"."""
_PATTERNS = tuple(re.compile(rf"\b(?:{words})\b") for words in (*_SAME, *_OPPOSITE))


@dataclass(frozen=True)
class Nearest:
    """A beat that there is a motion for."""

    beat: Beat
    similarity: float
    """To what was asked: a cosine; -1 where no beat has its sides and direction."""


class KnownBeats:
    """Beats that there is a motion for.

    Args:
        beats: At least one; durations do not count.
        encoder: Whose mean states tell what is near.
    """

    def __init__(self, beats: Sequence[Beat], encoder: TokenStates) -> None:
        self.beats, self._encoder = list(beats), encoder
        texts = [beat.text for beat in self.beats]
        self._places, self._words = self._embed(texts), _words(texts)

    def nearest(self, texts: Sequence[str]) -> Iterator[Nearest]:
        """Of each text."""
        for first in range(0, len(texts), BATCH):
            part = texts[first : first + BATCH]
            similarity = np.where(_agree(_words(part), self._words), self._embed(part) @ self._places.T, -1.0)
            for best, similarities in zip(similarity.argmax(axis=1).tolist(), similarity, strict=True):
                yield Nearest(self.beats[best], float(similarities[best]))

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[N, C]"""
        parts = [texts[first : first + BATCH] for first in range(0, len(texts), BATCH)]
        return np.concatenate([self._encoder.means(part).numpy() for part in parts])


def _words(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts have which words, [N, patterns]."""
    texts = [_COUNTER.sub("counterclockwise", text) for text in texts]
    return np.array([[bool(pattern.search(text)) for pattern in _PATTERNS] for text in texts])


def _agree(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[N, M]"""
    one, other = one[:, None], other[None]
    same = (one == other)[..., : len(_SAME)].all(axis=-1)
    (up, down), (its_up, its_down) = (np.moveaxis(words[..., len(_SAME) :], -1, 0) for words in (one, other))
    return same & ~(up & ~down & its_down & ~its_up) & ~(down & ~up & its_up & ~its_down)
