"""The baseline that every generator has to beat: the training clip whose caption is nearest to the prompt.

Captions are compared by their words, rare ones counting more (tf-idf, cosine): no evaluator has a say.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from python_core.clips.prepared import PreparedClip
from python_core.evaluation.protocols import words

PROMPTS_AT_ONCE = 256


class NearestCaption:
    """Captions of training clips, ready to search.

    Raises:
        ValueError: No clip has a caption.
    """

    def __init__(self, clips: Sequence[PreparedClip]) -> None:
        self._of_caption = [clip for clip in clips for _ in clip.captions]
        counts = [Counter(words(caption)) for clip in clips for caption in clip.captions]
        if not counts:
            raise ValueError("the nearest caption needs training clips with captions, got none")
        found_in = Counter(word for words_ in counts for word in words_)
        self._columns = {word: column for column, word in enumerate(found_in)}
        rarity = np.log((1 + len(counts)) / (1 + np.array(list(found_in.values())))) + 1
        self._rarity: NDArray[np.float64] = rarity
        self._captions = self._vectors(counts)

    def find(self, prompts: Sequence[str]) -> list[PreparedClip]:
        """The clip of the nearest caption to each prompt, the first of equally near ones."""
        found = []
        for first in range(0, len(prompts), PROMPTS_AT_ONCE):
            asked = self._vectors([Counter(words(prompt)) for prompt in prompts[first : first + PROMPTS_AT_ONCE]])
            nearest = (asked @ self._captions.T).toarray().argmax(axis=1)
            found += [self._of_caption[place] for place in nearest]
        return found

    def _vectors(self, texts: Sequence[Counter[str]]) -> csr_array:
        """Of unit length, a row a text; words that no caption has are left out."""
        rows, columns, values = [], [], []
        for row, counts in enumerate(texts):
            known = {word: count for word, count in counts.items() if word in self._columns}
            weights = np.array([count * self._rarity[self._columns[word]] for word, count in known.items()])
            rows += [row] * len(known)
            columns += [self._columns[word] for word in known]
            values += (weights / max(float(np.linalg.norm(weights)), 1e-12)).tolist()
        return csr_array((values, (rows, columns)), shape=(len(texts), len(self._columns)))
