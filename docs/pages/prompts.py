"""The prompts that pages show, and that none is copied: python docs/pages/prompts.py CAPTIONS [CAPTIONS ...]

CAPTIONS are files of training texts, a JSON object with `captions` a line, such as runs/prepared/clips.jsonl. Fails if
a prompt of docs/designer_prompts (or of --prompts) is one of them, or if a word that the gallery takes for unknown is
in one; "dodges" and "dodge" are the same.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lemminflect import getAllLemmas

DOCS = Path(__file__).parents[1]
GALLERY = DOCS / "gallery" / "prompts.toml"
DESIGNER = DOCS / "designer_prompts" / "prompts.toml"

KINDS = {
    "plain": "Plain prompts",
    "beats": "Two to four beats",
    "synonyms": "With a word that no caption has",
    "steering": "Steered while it moves",
}
"""Tables of the gallery's file, and what the page calls them."""
WHO = re.compile(r"^(?:an? (?:person|man|woman|figure)|the (?:person|man|guard|hero|acrobat)|someone|somebody|he|she) ")


@dataclass(frozen=True)
class Order:
    """What is asked of a character, and what it shows at that moment."""

    prompt: str
    at_s: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One picture of the gallery."""

    name: str
    kind: str
    orders: tuple[Order, ...]
    word: str = ""
    """What no caption has."""


@dataclass(frozen=True)
class DesignerPrompts:
    """Prompts to be judged by eye."""

    seed: int
    plain: tuple[str, ...]
    multi_beat: tuple[str, ...]


def read_scenes(path: Path = GALLERY) -> tuple[int, list[Scene]]:
    """The gallery's seed and scenes, in their order.

    Raises:
        ValueError: A table is unknown, a scene has no prompt, or orders are not in order.
    """
    tables = _read(path)
    seed = tables.pop("seed")
    if unknown := sorted(set(tables) - set(KINDS)):
        raise ValueError(f"{path}: unknown tables {unknown}; known are {', '.join(KINDS)}")
    scenes = []
    for kind, table in tables.items():
        for name, asked in table.items():
            orders = asked if isinstance(asked, list) else [asked if isinstance(asked, dict) else {"prompt": asked}]
            word = orders[0].get("word", "")
            try:
                scene = Scene(name, kind, tuple(Order(o["prompt"], o.get("at_s", 0.0)) for o in orders), word)
            except KeyError as error:
                raise ValueError(f"{path}: {name} has no {error}") from error
            times_s = [order.at_s for order in scene.orders]
            if times_s[0] != 0 or times_s != sorted(set(times_s)):
                raise ValueError(f"{path}: orders of {name} must begin at 0 s and follow each other, got {times_s}")
            scenes.append(scene)
    return seed, scenes


def read_designer_prompts(path: Path = DESIGNER) -> DesignerPrompts:
    """The prompts of a designer, in their order."""
    tables = _read(path)
    return DesignerPrompts(tables["seed"], tuple(tables["plain"]), tuple(tables["multi_beat"]))


def side_of(prompt: str) -> str | None:
    """`left`, `right` or `left and right` where a prompt names sides."""
    named = [word for word in _words(prompt) if word in ("left", "right")]
    return " and ".join(dict.fromkeys(named)) or None


def copied(prompts: Iterable[str], captions: Iterable[str]) -> list[str]:
    """Prompts that are a caption; case, marks, endings and who acts make no difference."""
    known = {_bare(caption) for caption in captions}
    return [prompt for prompt in prompts if _bare(prompt) in known]


def known_words(scenes: Iterable[Scene], captions: Iterable[str]) -> list[str]:
    """Words of scenes that should be unknown, and are not."""
    known = {_lemma(word) for caption in captions for word in _words(caption)}
    return [scene.word for scene in scenes if scene.word and _lemma(scene.word) in known]


def _read(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z'-]+", text.lower())


def _bare(text: str) -> str:
    return " ".join(map(_lemma, WHO.sub("", " ".join(_words(text))).split()))


@cache
def _lemma(word: str) -> str:
    """A word without its ending, as a verb where it can be one."""
    lemmas = getAllLemmas(word)
    return next((lemmas[kind][0] for kind in ("VERB", "NOUN", "ADJ") if kind in lemmas), word)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path, nargs="+")
    parser.add_argument("--prompts", type=Path, default=DESIGNER, help="a designer's")
    options, captions = parser.parse_args(), []
    for path in options.captions:
        captions += [text for line in path.read_text().splitlines() for text in json.loads(line)["captions"]]
    asked = read_designer_prompts(options.prompts)
    found = copied(asked.plain + asked.multi_beat, captions)
    known = known_words(read_scenes()[1], captions)
    print(f"{len(captions)} captions; copied prompts: {found or 'none'}; words that are known: {known or 'none'}")
    return 1 if found or known else 0


if __name__ == "__main__":
    sys.exit(main())
