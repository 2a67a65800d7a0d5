"""The gallery: python docs/pages/gallery.py [--bundle BUNDLE] [--only NAME ...]

Sends the prompts of docs/gallery/prompts.toml to a server of its own, as any client would, all with one seed, and
writes a picture of each, README.md beside them with plans and verdicts, and the first row into the project's README.
Nothing is picked: what fails stays, with a word from notes.toml. --only makes these pictures again and no page.
"""

import argparse
import math
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prompts import DOCS, KINDS, Order, Scene, read_scenes

from bridge.client import CallError, MotionClient
from bridge.clip import Clip
from bridge.decoder import join
from bridge.server import DEFAULT_BUNDLE, ServeConfig, running
from bridge.stubs import motion_pb2
from bridge.track import COMMIT_LEAD_S, Track
from bridge.writers import write_clip
from python_core.contract.bundle import open_bundle
from python_core.contract.plan import Beat, Plan, format_plan
from python_core.contract.quality import QualityReport, measure_quality
from python_core.contract.quality_thresholds import Verdict
from python_core.pictures import WEBP_SIZE

ROOT = DOCS.parent
BEGIN, END = "<!-- the gallery's first row, by make gallery -->", "<!-- end of the row -->"
FIRST_ROW = 4


@dataclass(frozen=True, eq=False)
class Acted:
    """What became of a scene."""

    scene: Scene
    clip: Clip | None
    """None where the model's reply was malformed."""
    turns: tuple[tuple[float, Plan | None], ...]
    """When each order took effect, and its plan."""
    refusal: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--out", type=Path, default=DOCS / "gallery", help="has prompts.toml and notes.toml")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="gets the first row")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    options = parser.parse_args()
    seed, scenes = read_scenes(options.out / "prompts.toml")
    notes = read_notes(options.out / "notes.toml", scenes)
    if unknown := sorted(set(options.only or ()) - {scene.name for scene in scenes}):
        raise ValueError(f"no scene is called {', '.join(unknown)}; see {options.out / 'prompts.toml'}")
    acted = []
    with (
        running(ServeConfig(bundle=options.bundle, port=0, web_port=None, provider="cpu")) as server,
        MotionClient(server.grpc_address) as client,
    ):
        for scene in scenes:
            if options.only and scene.name not in options.only:
                continue
            acted.append(act(client, scene, seed))
            clip, path = acted[-1].clip, picture(options.out, scene)
            path.unlink(missing_ok=True)
            if clip is not None:
                write_clip(path, clip)
            print(f"{scene.name}: {acted[-1].refusal or f'{path.stat().st_size / 1000:.0f} kB'}", flush=True)
    if options.only:
        return 0
    bundle = open_bundle(options.bundle)
    about = f"{bundle.manifest.model_id}, revision `{bundle.revision[:12]}`, seed {seed}"
    (options.out / "README.md").write_text(page(acted, notes, about, seed), encoding="utf-8")
    place_first_row(options.readme, [part.scene for part in acted if part.clip is not None][:FIRST_ROW], options.out)
    return 0


def read_notes(path: Path, scenes: Sequence[Scene]) -> dict[str, str]:
    """A word on each scene that fails.

    Raises:
        ValueError: It is on a scene that is not there.
    """
    notes = tomllib.loads(path.read_text(encoding="utf-8"))
    if unknown := sorted(set(notes) - {scene.name for scene in scenes}):
        raise ValueError(f"{path}: no scene is called {', '.join(unknown)}")
    return notes


def act(client: MotionClient, scene: Scene, seed: int) -> Acted:
    """Give the orders of a scene as a game would: each when its moment comes; what was sent ahead is cut."""
    tracks: list[Track] = []
    stream = None
    ends_s = [order.at_s + COMMIT_LEAD_S for order in scene.orders[1:]] + [math.inf]
    try:
        for order, end_s in zip(scene.orders, ends_s, strict=True):
            request = motion_pb2.StreamMotionRequest(prompt=order.prompt, seed=seed)
            stream = client.stream(request) if stream is None else client.steer(stream, order.at_s, request)
            tracks.append(track := stream.track)
            for event in stream:
                if event.HasField("chunk") and _end_s(track) >= end_s:
                    break
    except CallError as error:
        return Acted(scene, None, (), str(error))
    turns = tuple((track.starts_at_s, track.plan) for track in tracks)
    return Acted(scene, _joined(scene, tracks), turns)


def _end_s(track: Track) -> float:
    return track.starts_at_s + len(track.codes) * track.code_duration_s


def _joined(scene: Scene, tracks: Sequence[Track]) -> Clip:
    """What the character did: of each track the part before the next one begins."""
    if len(tracks) == 1:
        return Clip(motion=tracks[0].motion, prompt=scene.orders[0].prompt, plan=tracks[0].plan)
    parts, beats = [], []
    begins_s = [track.starts_at_s for track in tracks[1:]] + [_end_s(tracks[-1])]
    for order, track, begin_s in zip(scene.orders, tracks, begins_s, strict=True):
        lasts_s = begin_s - track.starts_at_s
        parts += track.parts[: round(lasts_s / track.code_duration_s)]
        beats.append(Beat(order.prompt, lasts_s))
    return Clip(motion=join(parts), prompt="steered", plan=Plan(tuple(beats)))


def picture(folder: Path, scene: Scene) -> Path:
    return folder / f"{scene.name}.webp"


def page(acted: Sequence[Acted], notes: dict[str, str], about: str, seed: int) -> str:
    """README.md of the gallery."""
    reports = {part.scene.name: measure_quality(part.clip.motion) for part in acted if part.clip is not None}
    verdicts = [report.verdict for report in reports.values()]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict.value}" for verdict in Verdict)
    lines = [
        "# Gallery",
        "",
        "What the default bundle does. The prompts were written down before any was looked at, one seed is for all,",
        "nothing was picked, and what failed stays. The body's left is blue, its right orange.",
        "",
        f"{about}, on a CPU. `make gallery` makes pictures and page again.",
        "",
        f"Verdicts of the [quality report](../quality.md): {counts}, of {len(acted)}. They are on how bodies move, not",
        "on what was asked; what a person sees that is wrong is said beside each.",
    ]
    for kind, title in KINDS.items():
        lines += ["", f"## {title}", "", "| | |", "|---|---|"]
        for part in acted:
            if part.scene.kind == kind:
                said = [
                    *_asked(part),
                    *_verdict(part, reports.get(part.scene.name)),
                    f"`{command(part.scene, seed)}`",
                    *([f"**Wrong:** {notes[part.scene.name]}"] if part.scene.name in notes else []),
                ]
                lines.append(f"| {_image(part)} | {'<br>'.join(text.replace('|', '/') for text in said)} |")
    return "\n".join(lines) + "\n"


def command(scene: Scene, seed: int) -> str:
    """What makes the picture of a scene again."""
    first, *others = scene.orders
    if others:
        return f"python docs/pages/gallery.py --only {scene.name}"
    return f'python -m bridge generate "{first.prompt}" --seed {seed} --out {scene.name}.webp'


def _asked(part: Acted) -> list[str]:
    """Prompts and plans."""
    said = []
    turns = part.turns or tuple((order.at_s, None) for order in part.scene.orders)
    for order, (begins_s, plan) in zip(part.scene.orders, turns, strict=True):
        asked_at = f", asked at {order.at_s:.1f} s, from {begins_s:.1f} s on" if order.at_s else ""
        said += [f"**{order.prompt}**{asked_at}", f"plan: {format_plan(plan)}" if plan else "no plan"]
    if part.scene.word:
        said.append(f'no caption has the word "{part.scene.word}"')
    return said


def _verdict(part: Acted, report: QualityReport | None) -> list[str]:
    """The report's verdict, and its measures to unfold."""
    if part.clip is None or report is None:
        return [f"no motion: {part.refusal}"]
    reason = f", for its `{report.weakest_measure}`" if report.verdict is not Verdict.GOOD else ""
    slides = f"feet in contact {100 * report.contact_foot_speed_m_s:.0f} cm/s"
    measures = ", ".join(f"{name} {value:.3g}" for name, value in vars(report).items())
    return [
        f"{report.verdict.value}, score {report.score:.2f}{reason}; {slides}; {part.clip.motion.duration_s:.1f} s",
        f"<details><summary>all measures</summary>{measures}</details>",
    ]


def _image(part: Acted) -> str:
    if part.clip is None:
        return ""
    return f'<img src="{part.scene.name}.webp" width="{WEBP_SIZE[0]}" alt="{_alt(part.scene.orders)}">'


def _alt(orders: Sequence[Order]) -> str:
    return ", then ".join(order.prompt for order in orders)


def place_first_row(readme: Path, scenes: Sequence[Scene], folder: Path) -> None:
    """Write the gallery's first row between its marks in the README.

    Raises:
        ValueError: The marks are not there.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme}: the gallery's row belongs between the lines {BEGIN} and {END}")
    place = folder.resolve().relative_to(readme.resolve().parent).as_posix()
    cells = [f'<img src="{picture(Path(place), scene)}" alt="{_alt(scene.orders)}">' for scene in scenes]
    rows = (cells, ["---"] * len(scenes), [scene.orders[0].prompt for scene in scenes])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    readme.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"error: {error}")
