"""Command `show`: a clip as an animation or a sheet of frames, random clips of a folder as a contact sheet; with a
tokenizer, each beside what the tokenizer makes of it, or codes as it decodes them.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

OUT_EXTENSIONS = (".png", ".gif")
CODES_EXTENSIONS = (".json", ".jsonl")
MAX_CLIPS = 100


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Draw clips: a sheet of frames as .png, or one clip as an animated .gif."""

    clip: Positional[Path]
    """A motion (.npz, .bvh), a recording of AMASS (.npz), joints or features at 20 frames a second (.npy), codes (a
    list in .json; codes.jsonl of train-sft; replies of evaluate), a folder of clips, or what prepare wrote.
    """

    out: Path
    """The picture to write, .png or .gif."""

    split: str | None = None
    """Of a folder, the split to choose clips from; without it val, or train where val has no clips."""

    checkpoint: Path | None = None
    """Folder of a tokenizer, or of a language model with its own; each clip is shown with its reconstruction and codes.
    Codes need it.
    """

    body_model: Path | None = None
    """AMASS: body models for each person's own joints, as prepare takes them; None poses the mean body."""

    count: int = 12
    """Of a folder or a file of codes, the number of random clips."""

    ids: tuple[str, ...] = ()
    """Of a folder or a file of codes, the clips to show instead of random ones."""

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
    from python_core.exhibit import (
        choose_codes,
        choose_exhibits,
        find_split,
        find_tokenizer,
        read_back,
        read_exhibit,
        to_row,
    )
    from python_core.motion_tokenizer import MotionTokenizer
    from python_core.pictures import write_gif, write_sheet

    tokenizer = None if config.checkpoint is None else MotionTokenizer.load(find_tokenizer(config.checkpoint))
    frame_rate_hz = None if tokenizer is None else tokenizer.frame_rate_hz
    title = ""
    if config.clip.is_dir():
        split = config.split or find_split(config.clip, config.body_model)
        exhibits, num_clips = choose_exhibits(
            config.clip, split, config.count, config.ids, config.seed, frame_rate_hz, config.body_model
        )
        title = f"{config.clip}: {len(exhibits)} clip{'' if len(exhibits) == 1 else 's'}"
        title += "" if config.ids else f" of {num_clips}, {split}, seed {config.seed}"
    elif _holds_codes(config.clip):
        assert config.checkpoint is not None
        assert tokenizer is not None
        exhibits, num_clips = choose_codes(
            config.clip, config.count, config.ids, config.seed, config.checkpoint, tokenizer
        )
        if num_clips > 1:
            title = f"{config.clip}: codes of {len(exhibits)} clip{'' if len(exhibits) == 1 else 's'} of {num_clips}"
            title += "" if config.ids else f", seed {config.seed}"
    else:
        exhibits = [read_exhibit(config.clip, frame_rate_hz, config.body_model)]
    is_gif = config.out.suffix.lower() == ".gif"
    if is_gif and len(exhibits) != 1:
        raise ValueError(
            f"{config.out}: a .gif shows one clip, got {len(exhibits)}; name one with --ids, or write a .png"
        )
    if tokenizer is None or _holds_codes(config.clip):
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


def _holds_codes(path: Path) -> bool:
    return path.suffix.lower() in CODES_EXTENSIONS and path.is_file()


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
    if _holds_codes(config.clip) and config.checkpoint is None:
        raise ValueError(f"{config.clip}: codes need --checkpoint, the tokenizer that decodes them")
    if _holds_codes(config.clip) and config.body_model is not None:
        raise ValueError(f"{config.clip}: codes have no --body-model, it is for recordings of AMASS; leave it out")
    if config.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {config.seed}")
