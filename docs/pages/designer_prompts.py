"""A hundred prompts, to be judged by eye: python docs/pages/designer_prompts.py [--bundle BUNDLE] [--count]

Sends docs/designer_prompts/prompts.toml to a server of its own, all with one seed, and writes contact sheets with a
film strip for each prompt, judgement.json, in which every prompt waits for a person's word, and README.md. A judgement
of the same bundle is kept. Then write into judgement.json:

    recognised    true or false: would a stranger who sees the strip say what the character does?
    sides         true or false where a prompt names left or right: are they the right ones? null: it cannot be told
    note          a word on why not

and --count, which asks for no motion, writes the shares into README.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image
from prompts import DOCS, read_designer_prompts, side_of

from bridge.client import CallError, MotionClient, Received
from bridge.server import DEFAULT_BUNDLE, ServeConfig, running
from bridge.stubs import motion_pb2
from python_core.contract.plan import format_plan
from python_core.contract.quality import measure_quality
from python_core.pictures import Row, Strip, write_sheet

ROWS_A_SHEET = 10
NUM_FRAMES = {"plain": 8, "multi_beat": 12}
GOALS = {"plain": 0.80, "multi_beat": 0.60, "sides": 0.95}
SHEET_COLORS = 64


@dataclass(kw_only=True)
class Judged:
    """A prompt and what a person says of its motion."""

    number: int
    kind: str
    prompt: str
    plan: str
    verdict: str
    """Of the quality report."""
    sheet: str
    """File; empty where the reply was malformed, which is not recognised."""
    recognised: bool | None = None
    named: str | None = None
    """The side that the prompt names."""
    sides: bool | None = None
    note: str = ""


@dataclass
class Judgement:
    """All prompts, on one bundle."""

    model_id: str
    revision: str
    seed: int
    judged_by: str
    """Who looked, and how."""
    prompts: list[Judged]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--out", type=Path, default=DOCS / "designer_prompts", help="has prompts.toml")
    parser.add_argument("--count", action="store_true", help="only write README.md from judgement.json")
    options = parser.parse_args()
    file = options.out / "judgement.json"
    if options.count:
        judgement = read_judgement(file)
    else:
        judgement = perform(options.bundle, options.out)
        if file.exists() and (old := read_judgement(file)).revision == judgement.revision:
            judgement = keep(old, judgement)
        file.write_text(json.dumps(asdict(judgement), indent=1) + "\n", encoding="utf-8")
    (options.out / "README.md").write_text(page(judgement), encoding="utf-8")
    return 0


def perform(bundle: Path, folder: Path) -> Judgement:
    """Let the bundle act out all prompts, and draw the sheets."""
    asked = read_designer_prompts(folder / "prompts.toml")
    for sheet in folder.glob("*.png"):
        sheet.unlink()
    number, judged = 0, []
    with (
        running(ServeConfig(bundle=bundle, port=0, web_port=None, provider="cpu")) as server,
        MotionClient(server.grpc_address) as client,
    ):
        model = client.get_model().model
        for kind, prompts in (("plain", asked.plain), ("multi_beat", asked.multi_beat)):
            for first in range(0, len(prompts), ROWS_A_SHEET):
                path = folder / f"{kind}_{first // ROWS_A_SHEET + 1}.png"
                rows = []
                for prompt in prompts[first : first + ROWS_A_SHEET]:
                    number += 1
                    found = Judged(
                        number=number, kind=kind, prompt=prompt, plan="", verdict="", sheet="", named=side_of(prompt)
                    )
                    judged.append(found)
                    try:
                        received = client.generate(motion_pb2.StreamMotionRequest(prompt=prompt, seed=asked.seed))
                    except CallError as error:
                        found.recognised, found.note = False, str(error)
                        continue
                    found.plan = format_plan(received.clip.plan) if received.clip.plan else ""
                    found.verdict, found.sheet = measure_quality(received.clip.motion).verdict.value, path.name
                    rows.append(_row(found, received))
                if rows:
                    write_sheet(path, rows, num_frames=NUM_FRAMES[kind])
                    with Image.open(path) as image:
                        image.quantize(SHEET_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
                print(f"{number} of {len(asked.plain + asked.multi_beat)}", flush=True)
    return Judgement(model.model_id, model.revision, asked.seed, "", judged)


def _row(found: Judged, received: Received) -> Row:
    note = f"{received.clip.motion.duration_s:.1f} s, {found.verdict}"
    return Row(title=f"{found.number}. {found.prompt}", note=note, strips=(Strip(motion=received.clip.motion),))


def read_judgement(path: Path) -> Judgement:
    """What a person wrote.

    Raises:
        ValueError: A field is unknown, or is no true, false or null.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    try:
        prompts = [Judged(**prompt) for prompt in fields.pop("prompts")]
        judgement = Judgement(**fields, prompts=prompts)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    for found in prompts:
        for name in ("recognised", "sides"):
            if getattr(found, name) not in (True, False, None):
                raise ValueError(f"{path}: {name} of prompt {found.number} must be true, false or null")
        if found.sides is not None and found.named is None:
            raise ValueError(f"{path}: prompt {found.number} names no side, sides must be null")
    return judgement


def keep(old: Judgement, new: Judgement) -> Judgement:
    """The new sheets with the word on the old ones: the same bundle and seed give the same motions."""
    said = {found.prompt: found for found in old.prompts}
    for found in new.prompts:
        if (before := said.get(found.prompt)) is not None and found.sheet:
            found.recognised, found.sides, found.note = before.recognised, before.sides, before.note
    new.judged_by = old.judged_by
    return new


def share(judged: Sequence[bool | None]) -> str:
    """Of those that were judged."""
    known = [found for found in judged if found is not None]
    if not known:
        return "not judged yet"
    text = f"{100 * sum(known) / len(known):.0f} % ({sum(known)} of {len(known)})"
    return text if len(known) == len(judged) else f"{text}, {len(judged) - len(known)} not judged"


def shares(judgement: Judgement) -> list[tuple[str, str, str]]:
    """What is counted, its goal's name, and its share."""
    plain, several = (
        [found.recognised for found in judgement.prompts if found.kind == kind] for kind in ("plain", "multi_beat")
    )
    sides = [found.sides for found in judgement.prompts if found.sides is not None]
    as_asked = [
        None if found.recognised is None else found.recognised and found.sides is not False
        for found in judgement.prompts
        if found.kind == "plain"
    ]
    return [
        ("plain prompts that are recognised", "plain", share(plain)),
        ("the same, but on the other side is not", "plain", share(as_asked)),
        ("prompts of several beats that are", "multi_beat", share(several)),
        ("left and right correct", "sides", share(sides)),
    ]


def page(judgement: Judgement) -> str:
    """README.md: shares, sheets, and each prompt."""
    named = [found for found in judgement.prompts if found.named]
    num_open = sum(found.sides is None for found in named)
    lines = [
        "# A hundred prompts of a designer",
        "",
        "What a designer of NPCs would type, written before any was looked at (`docs/pages/prompts.py` tells which are",
        "captions of the training clips). One seed, none picked. A prompt is recognised if a stranger who sees its",
        "strip would say what the character does, all beats of it, on whichever side. The body's left is blue, its",
        "right orange.",
        "",
        f"{judgement.model_id}, revision `{judgement.revision[:12]}`, seed {judgement.seed}. Judged by:",
        f"{judgement.judged_by or 'nobody yet'}. `make designer-prompts` makes sheets and page again.",
        "",
        "| | share | goal |",
        "|---|---|---|",
        *(f"| {name} | {counted} | {100 * GOALS[goal]:.0f} % |" for name, goal, counted in shares(judgement)),
        "",
        f"{len(named)} prompts name a side; of {num_open} it cannot be told or was not judged.",
        "",
        "| | prompt | plan | verdict | recognised | sides | note |",
        "|---|---|---|---|---|---|---|",
    ]
    words = {True: "yes", False: "**no**", None: ""}
    for found in judgement.prompts:
        cells = (str(found.number), found.prompt, found.plan, found.verdict, words[found.recognised])
        cells += (words[found.sides], found.note)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    for sheet in dict.fromkeys(found.sheet for found in judgement.prompts if found.sheet):
        lines += ["", f"![{sheet.removesuffix('.png').replace('_', ' ')}]({sheet})"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
