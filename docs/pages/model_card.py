"""MODEL_CARD.md from what training left: python docs/pages/model_card.py --checkpoint RUN --evaluations NAME=FOLDER ...

Fills docs/model_card/template.md from the bundle's manifest and files, the checkpoint's weights, report.json of
prepare, measures.json of the tokenizer, judgement.json of evaluations, the judgement of docs/designer_prompts, and
facts.toml, which holds what no file says. What is missing is written as such, and named at the end; the exit code is
then 1. With --for-bundle, the card that `export --card` takes: it has what is known before an export.
"""

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from designer_prompts import GOALS, read_judgement, shares
from prompts import DOCS
from speed import flat, table

from bridge.server import DEFAULT_BUNDLE
from python_core.contract.bundle import open_bundle

OPEN = "**not filled in**"
ROWS = ("r_at_1", "r_at_3", "fid", "kid", "mm_dist", "diversity")
SOURCES = {
    "cmu": ("CMU Graphics Lab", "free for all uses, no direct resale", "HumanML3D's captions, MIT"),
    "hdm05": ("HDM05", "CC BY-SA 3.0", "from class names, CC0"),
    "100style": ("100STYLE", "CC BY 4.0, from a copy without a licence file", "from style and gait, CC0"),
    "kaykit-character-animations": ("KayKit Character Animations", "CC0 1.0", "by hand, CC0"),
    "mesh2motion": ("Mesh2Motion", "CC0 1.0", "by hand, CC0"),
    "quaternius-cyberpunk": ("Quaternius, Cyberpunk Game Kit", "CC0 1.0", "by hand, CC0"),
    "quaternius-knight": ("Quaternius, Animated Knight", "CC0 1.0", "by hand, CC0"),
    "quaternius-ual1": ("Quaternius, Universal Animation Library", "CC0 1.0", "by hand, CC0"),
    "composed": ("compositions of these", "those of their clips", "written with the plans, CC0 and MIT"),
}
"""Source -> name, licence of the motion, of the text."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/sft"), help="that was exported")
    parser.add_argument("--vqvae", type=Path, default=Path("runs/vqvae"), help="has measures.json")
    parser.add_argument("--prepared", type=Path, default=Path("runs/prepared"), help="has report.json")
    parser.add_argument("--evaluations", nargs="*", default=[], metavar="NAME=FOLDER", help="each has judgement.json")
    parser.add_argument("--for-bundle", action="store_true", help="leave out what is known after export only")
    parser.add_argument("--out", type=Path, default=DOCS.parent / "MODEL_CARD.md")
    options = parser.parse_args()
    template = (DOCS / "model_card" / "template.md").read_text(encoding="utf-8")
    facts = tomllib.loads((DOCS / "model_card" / "facts.toml").read_text(encoding="utf-8"))
    bundle = open_bundle(options.bundle)
    report = _read(options.prepared / "report.json")
    fields = {
        "model_id": bundle.manifest.model_id,
        "revision": f"`{bundle.revision[:12]}`",
        "licence": facts["licence"],
        "parts": parts(options.bundle, options.checkpoint),
        "sources": sources(report),
        "skipped": skipped(report),
        "without": facts["without_share_alike"]["result"],
        "can": facts["can"],
        "cannot": facts["cannot"],
        "by_eye": by_eye(*(DOCS / folder / "judgement.json" for folder in ("designer_prompts", "unseen_prompts"))),
        "judged": judged([tuple(named.split("=", 1)) for named in options.evaluations]),
        "tokenizer": tokenizer(_read(options.vqvae / "measures.json")),
        "parity": "\n".join(table(("", ""), flat(_read(options.bundle / "manifest.json")["parity"]))),
        "machine": facts["machine"],
        "watts_a_core": f"{facts['watts_a_core']:g}",
        "stages": stages(facts),
    }
    if options.for_bundle:
        fields |= dict.fromkeys(("parts", "parity"), "Sizes and parity stand in manifest.json beside this card.")
        # Judged from the bundle, of which the card is a part.
        later = ("by_eye", *(() if options.evaluations else ("judged",)))
        fields |= dict.fromkeys(later, "See MODEL_CARD.md of the project.")
        fields["revision"] = "that of `manifest.json` beside this card"
    card, missing = fill(template, fields)
    options.out.write_text(card, encoding="utf-8")
    print(f"wrote {options.out}" + (f"; still open: {', '.join(missing)}" if missing else ""))
    return 1 if missing else 0


def fill(template: str, fields: dict[str, str]) -> tuple[str, list[str]]:
    """The card, and the fields that say nothing or have something open in them.

    Raises:
        ValueError: The template has other fields.
    """
    for name, text in fields.items():
        if f"{{{name}}}" not in template:
            raise ValueError(f"template.md has no place for {name}")
        template = template.replace(f"{{{name}}}", text or OPEN)
    return template, [name for name, text in fields.items() if not text or OPEN in text]


def _read(path: Path) -> dict[str, Any]:
    """Fields of a file; none if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def num_parameters(weights: Path) -> int | None:
    """Numbers in a .safetensors file, whose header names the shape of each tensor."""
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def parts(bundle: Path, checkpoint: Path) -> str:
    """Parameters, precision and size of what the bundle computes with."""
    manifest = _read(bundle / "manifest.json")
    weights = {
        "language_model": checkpoint / "language_model" / "model.safetensors",
        "motion_decoder": checkpoint / "vqvae" / "model.safetensors",
    }
    names = {
        "language_model": "language model, depth head included",
        "depth_head": "its depth head, a graph of its own",
        "motion_decoder": "motion tokenizer, of which the bundle holds the decoder",
    }
    rows = []
    for part, name in names.items():
        if (graph := manifest.get(part)) is not None:
            files = [path for path in bundle.iterdir() if path.name.startswith(part)]
            size = sum(path.stat().st_size for path in files) / 1e6
            counted = num_parameters(weights[part]) if part in weights else None
            million = f"{counted / 1e6:.1f} million" if counted else "" if part not in weights else OPEN
            rows.append((name, million, graph.get("weights", graph["precision"]), f"{size:.1f} MB"))
    whole = sum(path.stat().st_size for path in bundle.iterdir()) / 1e6
    rows.append(("the bundle", "", "", f"{whole:.1f} MB"))
    return "\n".join(table(("part", "parameters", "stored", "size"), rows))


def sources(report: dict[str, Any]) -> str:
    """Clips of each source that were trained on, with their licences."""
    if not report:
        return ""
    rows = []
    for row in report["rows"]:
        if row["split"] == "train" and row["num_clips"]:
            name, motion, text = SOURCES[row["source"]]
            rows.append((name, str(row["num_clips"]), f"{row['hours']:.2f}", motion, text))
    return "\n".join(table(("source", "clips, with variations and mirrored copies", "hours", "motion", "text"), rows))


def skipped(report: dict[str, Any]) -> str:
    return f"{report['total']['num_skipped']} clips were left out because of their licence or form." if report else ""


def by_eye(looked_at: Path, unseen: Path) -> str:
    """Shares of prompts that are recognised: of those that were looked at while the model was made, and of others."""
    if not (looked_at.is_file() and unseen.is_file()):
        return ""
    both = zip(shares(read_judgement(looked_at)), shares(read_judgement(unseen)), strict=True)
    rows = [
        (
            name,
            *(OPEN if "not judged yet" in found else found for found in (share, other)),
            f"{100 * GOALS[kind]:.0f} %",
        )
        for (name, kind, share), (_, _, other) in both
    ]
    return "\n".join(table(("", "looked at while it was made", "seen by nobody before", "goal"), rows))


def judged(evaluations: Sequence[tuple[str, ...]]) -> str:
    """Rows of evaluations on the same texts, real motions first; intervals are over recordings where there are some."""
    lines: list[str] = []
    rows: list[Sequence[str]] = []
    quality: list[Sequence[str]] = []
    for number, (name, folder) in enumerate(evaluations):
        found = _read(Path(folder) / "judgement.json")
        if not found:
            return ""
        if number == 0:
            lines = [
                f"{found['protocol']}, {found['num_texts']} texts; 95 % intervals over recordings in brackets. Replies "
                "are drawn at the bundle's temperatures, but free of the grammar, so that well formed says something.",
                "",
            ]
        real = found["rows"][0]
        for row in found["rows"]:
            if row["name"] == "ours" or number == 0:
                rows.append((name if row["name"] == "ours" else row["name"], *judged_cells(row)))
            if row["name"] == "ours":
                quality.append((name, *against_real(row, real)))
    heads = ("", *(head.replace("_at_", "@").replace("r@", "R@") for head in ROWS), "well formed", "plans followed")
    lines += table(heads, rows)
    heads = (
        "",
        "R@3 of ours / real (goal 0.9)",
        "foot skate (goal 1.5)",
        "speed of all feet in contact",
        "jerk (goal 0.7 to 1.3)",
    )
    return "\n".join([*lines, "", "Against real motions, ours / theirs:", "", *table(heads, quality)]) if rows else ""


def judged_cells(row: dict[str, Any]) -> list[str]:
    """Metrics with intervals, and what else is known of a row."""
    cells = []
    for name in ROWS:
        sure = (row.get("over_recordings") or {}).get(name)
        low_high = f" [{sure['low']:.2f}, {sure['high']:.2f}]" if sure else ""
        cells.append(f"{row['scores'][name]['value']:.3f}{low_high}")
    formed, plans = row.get("well_formed"), row.get("plans")
    cells.append("-" if formed is None else f"{100 * formed:.1f} %")
    cells.append("-" if not plans else f"{100 * plans['followed']:.1f} %, beats {100 * plans['recovered']:.1f} %")
    return cells


def against_real(row: dict[str, Any], real: dict[str, Any]) -> list[str]:
    ours, theirs = (found["quality"]["report"] for found in (row, real))
    return [
        f"{row['scores']['r_at_3']['value'] / real['scores']['r_at_3']['value']:.2f}",
        f"{ours['foot_skate_m_s'] / theirs['foot_skate_m_s']:.2f}",
        f"{ours['contact_foot_speed_m_s'] / theirs['contact_foot_speed_m_s']:.2f}",
        f"{ours['jerk_m_s3'] / theirs['jerk_m_s3']:.2f}",
    ]


def tokenizer(measures: dict[str, Any]) -> str:
    """Errors of the motion tokenizer, by source."""
    if not measures:
        return ""
    rows = []
    for name, found in measures["measures"].items():
        numbers = [found[key] for key in ("mpjpe_mm", "global_mpjpe_mm", "contact_speed_ratio", "jerk_ratio")]
        rows.append((name, str(found["num_clips"]), *("-" if n is None else str(n) for n in numbers)))
    heads = (
        "source",
        "clips",
        "joints, root in place, mm (goal 35)",
        "joints in the world, mm (goal 120)",
        "feet, times the source's (goal 1.5)",
        "jerk (goal 1.2)",
    )
    used = ", ".join(f"{100 * share:.1f}" for share in measures["entries_in_use"])
    return "\n".join([*table(heads, rows), "", f"Entries in use, by level, % (goal 95): {used}."])


def stages(facts: dict[str, Any]) -> str:
    """Commands with their times and energy."""
    rows, hours, kwh = [], 0.0, 0.0
    for stage in facts["stages"]:
        if stage["hours"] == "":
            rows.append((f"`{stage['command']}`", OPEN, OPEN))
            continue
        used = stage["hours"] * stage["cores"] * facts["watts_a_core"] / 1000
        hours, kwh = hours + stage["hours"], kwh + used
        rows.append((f"`{stage['command']}`", f"{stage['hours']:.2f} h, {stage['cores']} cores", f"{used:.3f} kWh"))
    rows.append(("together", f"{hours:.1f} h", f"{kwh:.2f} kWh"))
    return "\n".join(table(("command", "time", "energy"), rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
