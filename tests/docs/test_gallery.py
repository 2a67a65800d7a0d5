"""The gallery, acted out by the default bundle."""

from collections.abc import Iterator
from pathlib import Path

import gallery
import numpy as np
import pytest
from prompts import DOCS, Order, Scene, read_scenes

from bridge.client import MotionClient
from bridge.server import DEFAULT_BUNDLE, ServeConfig, running
from bridge.stubs import motion_pb2
from python_core.contract.bundle import open_bundle

CODE_S = 0.2
STEERED = Scene("turn", "steering", (Order("a person walks forward"), Order("a person does a squat", at_s=0.7)))
PLAIN = Scene("walk", "plain", (Order("a person walks forward"),))


@pytest.fixture(scope="module")
def client() -> Iterator[MotionClient]:
    with (
        running(ServeConfig(port=0, web_port=None, provider="cpu")) as server,
        MotionClient(server.grpc_address) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def acted(client: MotionClient) -> list[gallery.Acted]:
    return [gallery.act(client, scene, seed=0) for scene in (PLAIN, STEERED)]


def test_the_pictures_are_of_the_bundle_that_ships():
    assert f"revision `{open_bundle(DEFAULT_BUNDLE).revision[:12]}`" in (DOCS / "gallery" / "README.md").read_text()


def test_a_plain_scene_is_what_generate_makes_of_its_prompt(client: MotionClient, acted: list[gallery.Acted]):
    request = motion_pb2.StreamMotionRequest(prompt=PLAIN.orders[0].prompt, seed=0, reasoning=motion_pb2.REASONING_ON)
    generated = client.generate(request).clip
    assert acted[0].clip is not None
    assert np.array_equal(acted[0].clip.motion.joint_rotations, generated.motion.joint_rotations)
    assert acted[0].clip.plan == generated.plan == acted[0].turns[0][1]


def test_an_order_takes_effect_at_the_code_after_its_lead_and_the_body_goes_on_from_there(acted: list[gallery.Acted]):
    clip, (first, second) = acted[1].clip, acted[1].turns
    assert clip is not None
    assert clip.plan is not None
    assert (first[0], second[0]) == (0, pytest.approx(1.2))  # 0.7 s, 0.4 s of lead, the next boundary of 0.2 s.
    assert [beat.text for beat in clip.plan.beats] == [order.prompt for order in STEERED.orders]
    assert clip.plan.duration_s == pytest.approx(clip.motion.duration_s)
    seam = round(second[0] * clip.motion.frame_rate_hz)
    before = acted[0].clip
    assert before is not None
    assert np.array_equal(clip.motion.joint_rotations[:seam], before.motion.joint_rotations[:seam])
    steps_m = np.linalg.norm(np.diff(clip.motion.root_positions_m, axis=0), axis=1)
    assert steps_m[seam - 1] < 0.15


def test_the_page_has_plan_verdict_command_and_note_of_each(acted: list[gallery.Acted]):
    refused = gallery.Acted(Scene("lob", "synonyms", (Order("he lobs"),), word="lobs"), None, (), "malformed | reply")
    page = gallery.page([*acted, refused], {"walk": "slides"}, "a model", seed=0)
    assert 'python -m bridge generate "a person walks forward" --seed 0 --out walk.webp' in page
    assert "python docs/pages/gallery.py --only turn" in page
    assert "plan: 1. walk forward" in page
    assert "**Wrong:** slides" in page
    assert "asked at 0.7 s, from 1.2 s on" in page
    assert "no motion: malformed / reply" in page
    assert page.count("<img") == 2
    assert "of 3." in page


def test_the_first_row_is_replaced_between_its_marks(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{gallery.BEGIN}\nold\n{gallery.END}\nafter\n")
    for _ in range(2):
        gallery.place_first_row(readme, [PLAIN, STEERED], tmp_path / "docs" / "gallery")
    text = readme.read_text()
    assert text.startswith(f"before\n{gallery.BEGIN}\n")
    assert text.endswith(f"{gallery.END}\nafter\n")
    assert text.count("docs/gallery/walk.webp") == 1
    assert "old" not in text
    readme.write_text("nothing")
    with pytest.raises(ValueError, match="belongs between"):
        gallery.place_first_row(readme, [PLAIN], tmp_path)


def test_the_readme_has_a_place_for_the_row_and_notes_are_on_scenes():
    readme = (DOCS.parent / "README.md").read_text()
    assert readme.index(gallery.BEGIN) < readme.index(gallery.END)
    scenes = read_scenes()[1]
    assert set(gallery.read_notes(DOCS / "gallery" / "notes.toml", scenes)) <= {scene.name for scene in scenes}


def test_a_note_on_no_scene_is_refused(tmp_path: Path):
    (tmp_path / "notes.toml").write_text('wlak = "slides"\n')
    with pytest.raises(ValueError, match="no scene is called wlak"):
        gallery.read_notes(tmp_path / "notes.toml", [PLAIN])
