"""A clip as pictures: an animated GIF, and a PNG sheet of frames."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bridge.clip import Clip
from bridge.figure import Figure, draw, pose

GIF_SIZE = (360, 360)
SHEET_FRAMES = 12
SHEET_COLUMNS = 6
SHEET_TILE = (220, 250)

_INK = (38, 44, 54)
_FAINT = (104, 113, 127)
_MARGIN = 10
_GIF_TICK_MS = 10


def write_gif(path: Path, clip: Clip) -> None:
    """Write an animation at the clip's own frame rate, as near as GIF's hundredths of a second allow."""
    figure = pose(clip.motion)
    images = [_captioned(clip, figure, frame, GIF_SIZE) for frame in range(clip.motion.num_frames)]
    # One palette for all frames, without dithering: still areas stay still.
    palette = images[len(images) // 2].quantize(128, dither=Image.Dither.NONE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    duration_ms = max(2, round(1000 / clip.motion.frame_rate_hz / _GIF_TICK_MS)) * _GIF_TICK_MS
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration_ms, loop=0, optimize=False)


def write_png(path: Path, clip: Clip) -> None:
    """Write a contact sheet: evenly spaced frames from the first to the last, in reading order."""
    figure, num_frames = pose(clip.motion), clip.motion.num_frames
    frames = np.unique(np.linspace(0, num_frames - 1, SHEET_FRAMES).round().astype(int))
    columns = min(SHEET_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    title = 30 if clip.prompt else 0
    sheet = Image.new("RGB", (columns * SHEET_TILE[0], rows * SHEET_TILE[1] + title), "white")
    if title:
        text = _fitted(clip.prompt, _font(16), sheet.width - 2 * _MARGIN)
        ImageDraw.Draw(sheet).text((_MARGIN, 6), text, fill=_INK, font=_font(16))
    for place, frame in enumerate(frames):
        tile = draw(figure, int(frame), *SHEET_TILE)
        _write_moment(tile, clip, int(frame), font_size=12)
        row, column = divmod(place, columns)
        sheet.paste(tile, (column * SHEET_TILE[0], title + row * SHEET_TILE[1]))
    sheet.save(path)


def _captioned(clip: Clip, figure: Figure, frame: int, size: tuple[int, int]) -> Image.Image:
    image = draw(figure, frame, *size)
    _write_moment(image, clip, frame, font_size=15)
    if clip.prompt:
        font = _font(14)
        text = _fitted(clip.prompt, font, size[0] - 2 * _MARGIN)
        canvas = ImageDraw.Draw(image)
        canvas.text((size[0] / 2, size[1] - _MARGIN), text, fill=_INK, font=font, anchor="ms")
    return image


def _write_moment(image: Image.Image, clip: Clip, frame: int, font_size: int) -> None:
    """Write the seconds, and the beat that the plan has there."""
    canvas, font, seconds_font = ImageDraw.Draw(image), _font(font_size), _font(font_size - 2)
    time_s = frame / clip.motion.frame_rate_hz
    seconds = f"{time_s:.2f} s"
    canvas.text((image.width - _MARGIN, _MARGIN), seconds, fill=_FAINT, font=seconds_font, anchor="ra")
    if beat := clip.beat_at(time_s):
        room = image.width - 3 * _MARGIN - seconds_font.getlength("00.00 s")
        canvas.text((_MARGIN, _MARGIN), _fitted(beat.text, font, room), fill=_INK, font=font, anchor="la")


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels bring FreeType"
    return font


def _fitted(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The text on one line, cut with an ellipsis if it is too long."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."
