"""Command `show`: a clip as an animation or a sheet of frames, random clips of a folder as a contact sheet; with a
tokenizer, each beside what the tokenizer makes of it.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

OUT_EXTENSIONS = (".png", ".gif")
MAX_CLIPS = 100


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Draw clips: a sheet of frames as .png, or one clip as an animated .gif."""

    clip: Positional[Path]
    """A motion (.npz), joints or features at 20 frames a second (.npy), a folder of clips, or what prepare wrote."""

    out: Path
    """The picture to write, .png or .gif."""

    split: str = "val"
    """Of a folder, the split to choose clips from."""

    checkpoint: Path | None = None
    """Folder of a tokenizer; each clip is shown with its reconstruction and codes."""

    count: int = 12
    """Of a folder, the number of random clips."""

    ids: tuple[str, ...] = ()
    """Of a folder, the clips to show instead of random ones."""

    frames: int | None = None
    """Frames of each clip on a sheet; without it 12 of a single clip, 8 of several."""

    seed: int = 1
    """Of the choice of clips."""


def run(config: ShowConfig) -> None:
    """Find the clips, pass them through the tokenizer if there is one, and write the picture.

    Raises:
        ValueError: A file of unknown kind or content, a folder without such a split or clip, no tokenizer in
            `checkpoint`, or a picture that cannot be written.
    """
    _check(config)
    # Here, so that the command line is read and checked before torch is imported.
    from python_core.exhibit import choose_exhibits, read_back, read_exhibit, to_row
    from python_core.motion_tokenizer import MotionTokenizer
    from python_core.pictures import write_gif, write_sheet

    tokenizer = None if config.checkpoint is None else MotionTokenizer.load(config.checkpoint)
    frame_rate_hz = None if tokenizer is None else tokenizer.frame_rate_hz
    title = ""
    if config.clip.is_dir():
        exhibits, num_clips = choose_exhibits(
            config.clip, config.split, config.count, config.ids, config.seed, frame_rate_hz
        )
        title = f"{config.clip}: {len(exhibits)} clip{'' if len(exhibits) == 1 else 's'}"
        title += "" if config.ids else f" of {num_clips}, {config.split}, seed {config.seed}"
    else:
        exhibits = [read_exhibit(config.clip, frame_rate_hz)]
    is_gif = config.out.suffix.lower() == ".gif"
    if is_gif and len(exhibits) != 1:
        raise ValueError(
            f"{config.out}: a .gif shows one clip, got {len(exhibits)}; name one with --ids, or write a .png"
        )
    if tokenizer is None:
        rows = [to_row(exhibit) for exhibit in exhibits]
    else:
        readings = [read_back(exhibit, tokenizer) for exhibit in exhibits]
        rows = [to_row(exhibit, reading) for exhibit, reading in zip(exhibits, readings, strict=True)]
        mean_m = sum(reading.joint_error_m for reading in readings) / len(readings)
        title = title and f"{title}; {config.checkpoint}: mean joint error {1000 * mean_m:.0f} mm"
    if is_gif:
        write_gif(config.out, rows[0])
    else:
        write_sheet(config.out, rows, title, config.frames)


def _check(config: ShowConfig) -> None:
    """Refuse what cannot be done before anything is read."""
    out = config.out
    if out.suffix.lower() not in OUT_EXTENSIONS:
        raise ValueError(
            f"{out}: cannot draw {out.suffix or 'a file without extension'}; --out must end in .png or .gif"
        )
    if not out.parent.is_dir():
        raise ValueError(f"{out}: the folder {out.parent} does not exist; make it first")
    for field, number in (("count", config.count), ("frames", config.frames)):
        if number is not None and not 1 <= number <= MAX_CLIPS:
            raise ValueError(f"--{field} must be 1 to {MAX_CLIPS}, got {number}")
    if len(config.ids) > MAX_CLIPS:
        raise ValueError(f"--ids must name at most {MAX_CLIPS} clips, got {len(config.ids)}; show them in parts")
    if config.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {config.seed}")
