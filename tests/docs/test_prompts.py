"""The prompts that the pages show."""

import json
import re
from collections import Counter

import pytest
from prompts import DOCS, GALLERY, Order, Scene, copied, known_words, read_designer_prompts, read_scenes, side_of

from python_core.contract.plan import MAX_BEATS
from python_core.stages.build_reasoning import WRITTEN_CAPTIONS


def test_the_gallery_has_24_scenes_of_four_kinds():
    seed, scenes = read_scenes()
    assert seed == 0
    assert Counter(scene.kind for scene in scenes) == {"plain": 12, "beats": 6, "synonyms": 3, "steering": 3}
    assert len({scene.name for scene in scenes}) == 24
    assert len({scene.orders for scene in scenes}) == 24
    for scene in scenes:
        assert re.fullmatch(r"[a-z_]+", scene.name), scene
        assert (len(scene.orders) > 1) == (scene.kind == "steering"), scene
        assert len(scene.orders) <= MAX_BEATS, scene
        assert bool(scene.word) == (scene.kind == "synonyms"), scene
        assert scene.word in scene.orders[0].prompt, scene


def test_a_designer_has_70_plain_prompts_and_30_of_several_beats():
    asked = read_designer_prompts()
    assert (len(asked.plain), len(asked.multi_beat)) == (70, 30)
    assert len({*asked.plain, *asked.multi_beat}) == 100
    assert all(re.search(r", | and ", prompt) for prompt in asked.multi_beat)
    assert sum(side_of(prompt) is not None for prompt in asked.plain + asked.multi_beat) >= 20


def test_no_prompt_of_a_designer_was_written_for_training_word_for_word():
    written = {json.loads(line)["caption"].lower() for line in WRITTEN_CAPTIONS.read_text().splitlines()}
    assert len(written) > 5_000
    for folder in ("designer_prompts", "unseen_prompts"):
        asked = read_designer_prompts(DOCS / folder / "prompts.toml")
        assert not written & {prompt.lower() for prompt in asked.plain + asked.multi_beat}


def test_a_prompt_is_copied_whoever_acts_and_however_it_is_written():
    captions = ["A person walks forward.", "someone does a cartwheel, quickly."]
    prompts = ["the guard walks  forward", "the hero does a cartwheel quickly", "walk forward", "walks forward slowly"]
    assert copied(prompts, captions) == prompts[:3]


def test_a_word_that_a_caption_has_is_known():
    scenes = [Scene("a", "synonyms", (Order("he lobs a ball"),), word=word) for word in ("lobs", "hurls")]
    assert known_words(scenes, ["a person is Hurling a ball."]) == ["hurls"]


def test_sides_are_those_that_a_prompt_names():
    assert side_of("turn left, then kick with the left foot") == "left"
    assert side_of("hop on the left foot, then on the right") == "left and right"
    assert side_of("leftover bread") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[odd]\na = "walks"', "unknown tables .'odd'.; known are plain, beats"),
        ("[steering]\na = [{ at_s = 0.0 }]", "a has no 'prompt'"),
        ('[steering]\na = [{ prompt = "x" }, { prompt = "y" }]', r"orders of a must begin at 0 s .* got \[0.0, 0.0\]"),
        ("[plain\n", "prompts.toml"),
    ],
)
def test_a_file_of_prompts_that_is_wrong_is_refused(tmp_path, text: str, told: str):
    (tmp_path / "prompts.toml").write_text(f"seed = 0\n{text}\n")
    with pytest.raises(ValueError, match=told):
        read_scenes(tmp_path / "prompts.toml")


def test_the_files_lie_where_the_pages_look():
    assert GALLERY.is_file()
    assert DOCS.name == "docs"
