from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from python_core.contract.motion import Motion
from python_core.contract.plan import parse_plan
from python_core.contract.skeleton import BODY_22
from python_core.figure import draw, pose
from python_core.pictures import GIF_SIZE, WEBP_SIZE, Row, Strip, write_gif, write_sheet, write_webp

LARGE, SMALL = (220, 250), (160, 180)
HEADING = 30
PLAN = parse_plan("1. walk forward, 0.6 s 2. turn left, 0.4 s")


def t_pose(num_frames: int, frame_rate_hz: float = 20.0, travel_m_s: float = 0.0) -> Motion:
    rotations = np.tile(np.array([0, 0, 0, 1], np.float32), (num_frames, BODY_22.num_joints, 1))
    root_m = np.tile(np.array([0, BODY_22.rest_root_height_m, 0], np.float32), (num_frames, 1))
    root_m[:, 2] = travel_m_s * np.arange(num_frames) / frame_rate_hz
    return Motion(root_m, rotations, np.ones((num_frames, 4), np.bool_), frame_rate_hz)


def row_of(*motions: Motion, title: str = "", note: str = "") -> Row:
    return Row(title=title, note=note, strips=tuple(Strip(motion=motion) for motion in motions))


def pixels(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def durations_ms(path: Path) -> list[int]:
    with Image.open(path) as image:
        found = []
        for frame in range(image.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
            image.seek(frame)
            image.load()  # Of WebP, what a frame lasts is known with its pixels.
            found.append(image.info["duration"])
        return found


def sides(image: NDArray[np.int64]) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]:
    """Where orange and blue pixels are, y and x of each."""
    red, _, blue = np.moveaxis(image, -1, 0)
    return np.nonzero(red - blue > 90), np.nonzero(blue - red > 90)


def test_one_row_shows_twelve_upright_figures_with_the_left_arm_on_the_viewers_right(tmp_path: Path):
    write_sheet(tmp_path / "a.png", [row_of(t_pose(30))])
    sheet = pixels(tmp_path / "a.png")
    assert sheet.shape == (2 * LARGE[1], 6 * LARGE[0], 3)
    for row, column in np.ndindex(2, 6):
        (orange_y, orange_x), (blue_y, blue_x) = sides(sheet[250 * row :, 220 * column :][:250, :220])
        assert orange_x.mean() + 20 < blue_x.mean()  # It faces the camera: its left is on our right.
        assert orange_y.min() < 110 < 190 < orange_y.max()  # The arm is above the middle, the foot near the floor.
        assert blue_y.min() < 110 < 190 < blue_y.max()


def test_a_frame_is_drawn_with_smooth_edges_and_the_same_each_time():
    figure = pose(t_pose(2))
    first, again = (np.asarray(draw(figure, 1, 50, 60)) for _ in range(2))
    assert first.shape == (60, 50, 3)
    assert np.array_equal(first, again)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 30


def test_many_rows_have_a_line_of_eight_small_tiles_for_each_strip(tmp_path: Path):
    rows = [row_of(t_pose(30), title="stands"), row_of(t_pose(9), t_pose(9)), row_of(t_pose(3), note="short")]
    write_sheet(tmp_path / "a.png", rows, title="three clips")
    sheet = pixels(tmp_path / "a.png")
    assert sheet.shape == (3 * HEADING + 4 * SMALL[1], 8 * SMALL[0], 3)
    last = sheet[-SMALL[1] :]
    # A clip of 3 frames has 3 tiles, and white after them.
    assert (last[:, 3 * SMALL[0] :] == 255).all()
    assert not (last[:, : 3 * SMALL[0]] == 255).all(axis=-1).any()


@pytest.mark.parametrize(("num_rows", "num_frames", "columns", "lines"), [(1, 5, 5, 1), (1, 13, 6, 3), (2, 10, 10, 2)])
def test_as_many_frames_are_shown_as_asked_for(
    tmp_path: Path, num_rows: int, num_frames: int, columns: int, lines: int
):
    write_sheet(tmp_path / "a.png", [row_of(t_pose(40))] * num_rows, num_frames=num_frames)
    tile = LARGE if num_rows == 1 else SMALL
    assert pixels(tmp_path / "a.png").shape == (lines * tile[1], columns * tile[0], 3)


def test_a_column_is_one_moment_of_all_strips(tmp_path: Path):
    walk = t_pose(40, travel_m_s=1.3)
    write_sheet(tmp_path / "a.png", [row_of(walk, walk), row_of(walk)])
    sheet = pixels(tmp_path / "a.png")
    first, second, alone = (sheet[180 * line :][:180] for line in range(3))
    assert np.array_equal(first, second)
    assert np.array_equal(first, alone)
    tiles = np.split(first, 8, axis=1)
    assert all(not np.array_equal(before, after) for before, after in pairwise(tiles))


def test_a_strip_that_is_over_has_no_tile(tmp_path: Path):
    write_sheet(tmp_path / "a.png", [row_of(t_pose(41), t_pose(21))], num_frames=5)
    shorter = pixels(tmp_path / "a.png")[LARGE[1] :]
    shown = [not (tile == 255).all() for tile in np.split(shorter, 5, axis=1)]
    assert shown == [True, True, True, False, False]  # Frames 0, 10, 20, 30, 40 of 21.


def test_codes_are_written_under_the_frames_and_nowhere_else(tmp_path: Path):
    motion = t_pose(16)
    for name, codes in (("without", None), ("with", np.array([7, 300, 41, 5]))):
        strips = (Strip(motion=motion, codes=codes),)
        write_sheet(tmp_path / f"{name}.png", [Row(strips=strips)], num_frames=4)
    differs = (pixels(tmp_path / "with.png") != pixels(tmp_path / "without.png")).any(axis=-1)
    assert np.nonzero(differs.any(axis=1))[0].min() >= LARGE[1] - 20
    assert all(tile.any() for tile in np.split(differs, 4, axis=1))


def test_the_codes_under_evenly_spaced_frames_are_all_codes_in_order():
    codes = np.random.default_rng(1).integers(512, size=10)
    strip = Strip(motion=t_pose(40), codes=codes)
    frames = [0, 8, 20, 28, 36]
    written = [code for first, last in pairwise([*frames, 40]) for code in strip.codes_of(first, last)]
    assert written == codes.tolist()
    assert strip.codes_of(11, 11) == [codes[2]]
    assert Strip(motion=t_pose(40)).codes_of(0, 40) == []


def test_a_long_title_is_cut_before_the_note(tmp_path: Path):
    note = "000001, cmu, 2.0 s, mean joint error 41 mm"
    for name, title in (("none", ""), ("long", "a person walks " * 100)):
        write_sheet(tmp_path / f"{name}.png", [row_of(t_pose(24), title=title, note=note)])
    long, none = pixels(tmp_path / "long.png")[:HEADING], pixels(tmp_path / "none.png")[:HEADING]
    first = int(np.nonzero((none != 255).any(axis=(0, 2)))[0].min())
    assert np.array_equal(long[:, first:], none[:, first:])
    gap = long[:, first - 10 : first]
    assert (gap == 255).all()


@pytest.mark.parametrize(
    ("frame_rate_hz", "num_frames", "shown"),
    [(20.0, 12, 12), (24.0, 24, 24), (30.0, 30, 30), (60.0, 60, 30), (120.0, 120, 30), (100.0, 100, 25)],
)
def test_a_gif_lasts_as_long_as_its_motion_and_players_can_keep_up(
    tmp_path: Path, frame_rate_hz: float, num_frames: int, shown: int
):
    write_gif(tmp_path / "a.gif", row_of(t_pose(num_frames, frame_rate_hz, travel_m_s=1.0)))
    found = durations_ms(tmp_path / "a.gif")
    assert len(found) == shown
    assert sum(found) == pytest.approx(1000 * num_frames / frame_rate_hz, abs=5)
    assert min(found) >= 30


def test_a_webp_shows_the_same_moments_in_small_and_takes_less_room(tmp_path: Path):
    row = row_of(t_pose(20, travel_m_s=1.0), title="walks")
    write_gif(tmp_path / "a.gif", row)
    write_webp(tmp_path / "a.webp", row)
    assert durations_ms(tmp_path / "a.webp") == durations_ms(tmp_path / "a.gif") == [50] * 20
    with Image.open(tmp_path / "a.webp") as image:
        assert image.size == WEBP_SIZE
    (orange_y, orange_x), (blue_y, blue_x) = sides(pixels(tmp_path / "a.webp"))
    assert orange_x.mean() + 20 < blue_x.mean()
    assert min(orange_y.min(), blue_y.min()) < WEBP_SIZE[1] / 2 < min(orange_y.max(), blue_y.max())
    assert (tmp_path / "a.webp").stat().st_size < (tmp_path / "a.gif").stat().st_size / 3


def test_a_gif_has_its_strips_side_by_side_and_a_strip_that_is_over_stays(tmp_path: Path):
    long, short = t_pose(6, travel_m_s=1.0), t_pose(3, travel_m_s=1.0)
    write_gif(tmp_path / "a.gif", row_of(long, short))
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (2 * GIF_SIZE[0], GIF_SIZE[1])
        frames = []
        for frame in range(6):
            image.seek(frame)
            frames.append(np.asarray(image.convert("RGB"))[40:].astype(np.int64))
    left, right = zip(*(np.split(frame, 2, axis=1) for frame in frames), strict=True)
    assert np.array_equal(right[2], right[5])
    assert not np.array_equal(left[2], left[5])


def test_a_plan_has_a_beat_at_any_time():
    strip = Strip(motion=t_pose(30), plan=PLAN)
    beats = [strip.beat_at(time_s) for time_s in (0.0, 0.59, 0.6, 5.0)]
    assert [beat.text for beat in beats if beat] == ["walk forward", "walk forward", "turn left", "turn left"]
    assert Strip(motion=strip.motion).beat_at(0.0) is None


@pytest.mark.parametrize(
    ("codes", "got"),
    [
        (np.zeros(3, np.int64), r"int64 \[3\] for 16 frames"),
        (np.zeros(0, np.int64), r"int64 \[0\]"),
        (np.zeros((4, 1), np.int64), r"int64 \[4, 1\]"),
        (np.zeros(4), r"float64 \[4\]"),
    ],
)
def test_codes_that_are_not_those_of_the_motion_are_refused(codes: np.ndarray, got: str):
    with pytest.raises(ValueError, match=f"codes must be integers .* got {got}"):
        Strip(motion=t_pose(16), codes=codes)


def test_strips_of_different_frame_rates_are_refused():
    with pytest.raises(ValueError, match=r"row 'a walk': .* share a frame rate, got \[20.0, 30.0\]"):
        row_of(t_pose(4), t_pose(4, frame_rate_hz=30.0), title="a walk")
    with pytest.raises(ValueError, match="strips must be there"):
        Row(strips=())


def test_a_sheet_without_rows_or_frames_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least 1 row"):
        write_sheet(tmp_path / "a.png", [])
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        write_sheet(tmp_path / "a.png", [row_of(t_pose(4))], num_frames=0)


def test_who_jumps_high_is_seen_whole_and_the_floor_with_it():
    standing = t_pose(5)
    root_m = standing.root_positions_m.copy()
    root_m[2, 1] += 1.4
    jumping = Motion(root_m, standing.joint_rotations, standing.contacts, 20.0)
    for motion, frame in ((standing, 0), (jumping, 0), (jumping, 2)):
        image = np.asarray(draw(pose(motion), frame, *LARGE)).astype(np.int64)
        rows = np.concatenate([place[0] for place in sides(image)])
        assert 10 < rows.min() < rows.max() < LARGE[1] - 10
    # Nearer where there is no need to see more.
    assert pose(standing).distance_m < pose(jumping).distance_m
