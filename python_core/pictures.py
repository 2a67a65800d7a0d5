"""Motions as pictures: a PNG sheet of evenly spaced frames, an animated GIF or WebP. Numpy and Pillow, no torch."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from python_core.contract.motion import Motion
from python_core.contract.plan import Beat, Plan
from python_core.figure import draw, pose

GIF_SIZE = (360, 360)
WEBP_SIZE = (200, 200)
"""Small: four fit beside each other in a page, and five seconds are about 200 kB."""
FASTEST_HZ = 30.0
"""Of a faster motion, an animation shows every second frame, or third, and so on: players slow faster ones down."""

_INK = (38, 44, 54)
_FAINT = (104, 113, 127)
_MARGIN = 10
_GIF_TICK_MS = 10
_WEBP_QUALITY = 30
_HEADING = 30


@dataclass(frozen=True, eq=False, kw_only=True)
class Strip:
    """A motion in a picture.

    Raises:
        ValueError: Codes that are no codes, or not of this motion.
    """

    motion: Motion
    label: str = ""
    """What it is among the strips of its row, such as `source`."""
    codes: NDArray[np.int64] | None = None
    """The codes that the motion was decoded from, [T]; written under its frames."""
    plan: Plan | None = None
    """Its beats are written at their time."""

    def __post_init__(self) -> None:
        if self.codes is None:
            return
        whole = self.codes.ndim == 1 and np.issubdtype(self.codes.dtype, np.integer)
        if not whole or len(self.codes) == 0 or self.motion.num_frames % len(self.codes):
            raise ValueError(
                f"codes must be integers [T] with as many frames each, got {self.codes.dtype} {list(self.codes.shape)} "
                f"for {self.motion.num_frames} frames; give those that the motion was decoded from"
            )

    def codes_of(self, first: int, last: int) -> list[int]:
        """The code of frame `first` and those after it, up to the one of frame `last`, which is not among them."""
        if self.codes is None:
            return []
        frames_per_code = self.motion.num_frames // len(self.codes)
        start = first // frames_per_code
        return self.codes[start : max(last // frames_per_code, start + 1)].tolist()

    def beat_at(self, time_s: float) -> Beat | None:
        """The beat that the plan has at a time; None without a plan, the last one when the plan is over."""
        if self.plan is None:
            return None
        end_s = 0.0
        for beat in self.plan.beats:
            end_s += beat.duration_s
            if time_s < end_s:
                return beat
        return self.plan.beats[-1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """Motions that are shown together, at the same times, under one title.

    Raises:
        ValueError: No strips, or strips of different frame rates.
    """

    title: str = ""
    """A caption, or a prompt; cut where there is no room."""
    note: str = ""
    """Where it comes from and what was measured; never cut for the title."""
    strips: tuple[Strip, ...]

    def __post_init__(self) -> None:
        rates_hz = {strip.motion.frame_rate_hz for strip in self.strips}
        if len(rates_hz) != 1:
            raise ValueError(
                f"row {self.title!r}: strips must be there and share a frame rate, got {sorted(rates_hz)}; resample one"
            )

    @property
    def frame_rate_hz(self) -> float:
        return self.strips[0].motion.frame_rate_hz

    @property
    def num_frames(self) -> int:
        """Of the longest strip."""
        return max(strip.motion.num_frames for strip in self.strips)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Tiles of a sheet."""

    num_frames: int
    columns: int
    tile: tuple[int, int]
    font_size: int


_ONE_ROW = _Layout(num_frames=12, columns=6, tile=(220, 250), font_size=12)
_MANY_ROWS = _Layout(num_frames=8, columns=8, tile=(160, 180), font_size=11)


def write_sheet(path: Path, rows: Sequence[Row], title: str = "", num_frames: int | None = None) -> None:
    """Write a PNG of evenly spaced frames of each row, from its first to its last.

    A single row has large tiles in reading order, several have small ones, a line of tiles for each strip. A column is
    one moment; a strip that is over by then has no tile there.

    Args:
        path: The file.
        rows: From top to bottom.
        title: Above all rows.
        num_frames: Tiles of a strip.

    Raises:
        ValueError: No rows, or no frames of them.
    """
    if not rows:
        raise ValueError(f"{path}: a sheet needs at least 1 row, got none")
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"{path}: num_frames must be at least 1, got {num_frames}")
    layout = _ONE_ROW if len(rows) == 1 else _MANY_ROWS
    num_frames = num_frames or layout.num_frames
    columns = layout.columns if len(rows) == 1 else num_frames
    columns = min(columns, num_frames, max(row.num_frames for row in rows))
    parts = [_draw_row(row, layout, num_frames, columns) for row in rows]
    if title:
        parts.insert(0, _draw_heading(title, "", parts[0].width, font_size=18))
    sheet = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    sheet.save(path, format="PNG")


def write_gif(path: Path, row: Row) -> None:
    """Write an animation, strips side by side. Each frame begins at its time to a hundredth of a second, as GIF keeps
    it; a strip that is over keeps its last pose.
    """
    images = _draw_moments(row, GIF_SIZE, font_size=15)
    # One palette for all frames, without dithering: still areas stay still.
    palette = images[len(images) // 2].quantize(128, dither=Image.Dither.NONE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations_ms = _durations_ms(row, len(images), _GIF_TICK_MS)
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], duration=durations_ms, loop=0, optimize=False
    )


def write_webp(path: Path, row: Row) -> None:
    """Write an animation as `write_gif` does, in small."""
    images = _draw_moments(row, WEBP_SIZE, font_size=11)
    durations_ms = _durations_ms(row, len(images), tick_ms=1)
    images[0].save(
        path,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations_ms,
        loop=0,
        quality=_WEBP_QUALITY,
        minimize_size=True,
    )


def _step(row: Row) -> int:
    """Every how many frames an animation shows one."""
    return int(np.ceil(row.frame_rate_hz / FASTEST_HZ))


def _draw_moments(row: Row, size: tuple[int, int], font_size: int) -> list[Image.Image]:
    """The frames of an animation, a panel of this size for each strip."""
    width, height = size
    figures = [pose(strip.motion) for strip in row.strips]
    images = []
    for frame in range(0, row.num_frames, _step(row)):
        image = Image.new("RGB", (len(figures) * width, height))
        for place, (strip, figure) in enumerate(zip(row.strips, figures, strict=True)):
            shown = min(frame, strip.motion.num_frames - 1)
            panel = draw(figure, shown, width, height)
            _write_moment(panel, strip, strip.label, frame / row.frame_rate_hz, font_size)
            for code in strip.codes_of(shown, shown):
                _write_centered(panel, f"code {code}", y=height - 46, font_size=font_size - 3, color=_INK)
            image.paste(panel, (place * width, 0))
        _write_centered(image, row.note, y=height - 28, font_size=font_size - 3, color=_FAINT)
        _write_centered(image, row.title, y=height - _MARGIN, font_size=font_size - 1, color=_INK)
        images.append(image)
    return images


def _durations_ms(row: Row, num_images: int, tick_ms: int) -> list[int]:
    """How long each image of an animation is shown, in whole ticks that add up to the motion's time."""
    times = np.arange(num_images + 1) * _step(row) / row.frame_rate_hz * 1000 / tick_ms
    return (np.diff(times.round().astype(int)) * tick_ms).tolist()


def _draw_row(row: Row, layout: _Layout, num_frames: int, columns: int) -> Image.Image:
    """The row's heading, then its frames: every `columns` of them, a line of each strip."""
    frames = np.unique(np.linspace(0, row.num_frames - 1, num_frames).round().astype(int)).tolist()
    width, height = layout.tile
    blocks = -(-len(frames) // columns)
    top = _HEADING if row.title or row.note else 0
    image = Image.new("RGB", (columns * width, top + blocks * len(row.strips) * height), "white")
    if top:
        image.paste(_draw_heading(row.title, row.note, image.width, font_size=16), (0, 0))
    for number, strip in enumerate(row.strips):
        figure = pose(strip.motion)
        for place, (frame, following) in enumerate(zip(frames, [*frames[1:], 0], strict=True)):
            if frame >= strip.motion.num_frames:
                continue
            block, column = divmod(place, columns)
            tile = draw(figure, frame, width, height)
            label = strip.label if column == 0 else ""
            _write_moment(tile, strip, label, frame / row.frame_rate_hz, layout.font_size)
            codes = ", ".join(str(code) for code in strip.codes_of(frame, following))
            _write_centered(tile, codes, y=height - 6, font_size=layout.font_size, color=_INK)
            image.paste(tile, (column * width, top + (block * len(row.strips) + number) * height))
    return image


def _draw_heading(title: str, note: str, width: int, font_size: int) -> Image.Image:
    image = Image.new("RGB", (width, _HEADING), "white")
    canvas, font, note_font = ImageDraw.Draw(image), _font(font_size), _font(font_size - 3)
    note = _fitted(note, note_font, width - 2 * _MARGIN)
    canvas.text((width - _MARGIN, _HEADING - 9), note, fill=_FAINT, font=note_font, anchor="rs")
    room = width - 2 * _MARGIN - (note_font.getlength(note) + 2 * _MARGIN if note else 0)
    canvas.text((_MARGIN, _HEADING - 9), _fitted(title, font, room), fill=_INK, font=font, anchor="ls")
    return image


def _write_moment(image: Image.Image, strip: Strip, label: str, time_s: float, font_size: int) -> None:
    """Write the seconds, a label, and the beat that the plan has there."""
    canvas, font, seconds_font = ImageDraw.Draw(image), _font(font_size), _font(font_size - 2)
    canvas.text((image.width - _MARGIN, _MARGIN), f"{time_s:.2f} s", fill=_FAINT, font=seconds_font, anchor="ra")
    room = image.width - 3 * _MARGIN - seconds_font.getlength("00.00 s")
    beat = strip.beat_at(time_s)
    lines = [text for text in (label, beat.text if beat else "") if text]
    for number, line in enumerate(lines):
        place = (_MARGIN, _MARGIN + number * (font_size + 3))
        canvas.text(place, _fitted(line, font, room), fill=_INK, font=font, anchor="la")


def _write_centered(image: Image.Image, text: str, y: int, font_size: int, color: tuple[int, int, int]) -> None:
    font = _font(font_size)
    text = _fitted(text, font, image.width - 2 * _MARGIN)
    ImageDraw.Draw(image).text((image.width / 2, y), text, fill=color, font=font, anchor="ms")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels bring FreeType"
    return font


def _fitted(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text on one line; if it is too long, cut after a word where there is one, with an ellipsis."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    num_kept = bisect_left(range(len(text)), True, key=lambda last: font.getlength(text[: last + 1] + "...") > room)
    return text[:num_kept].rsplit(" ", 1)[0].rstrip(" .,;/") + "..."
