"""python -m python_core STAGE PRESET [--field value], and python -m python_core show CLIP --out PICTURE"""

import importlib
import logging
import os
import sys
from collections.abc import Callable

STAGES = {
    "prepare": "folders of clips -> features, captions, statistics",
    "train-vqvae": "features -> codes",
    "build-reasoning": "captions -> plans",
    "train-sft": "plans and codes -> a language model that speaks motion",
    "train-evaluator": "captions and motions -> what tells how well they match",
    "train-grpo": "a language model and rewards -> a better one",
    "evaluate": "a language model, a judge and clips -> tables, real motions beside ours",
    "compare": "evaluations of several models -> one table, with how sure the differences are",
    "fetch-backbone": "pretrained weights, checked by SHA-256: small's language model, the reward model's text encoder",
}
SHARED = {"train-vqvae", "train-sft", "train-evaluator", "train-grpo", "evaluate"}
"""Stages whose work several processes share. The others have `workers` or little to do: of the processes that
`accelerate launch` starts the first does all of it.
"""
SHOW = "clips, what a tokenizer makes of them, codes -> a contact sheet or an animation"
USAGE = """usage: python -m python_core STAGE PRESET [--field value]
       python -m python_core show CLIP|CODES|FOLDER --out PICTURE [--field value]"""


def main(arguments: list[str]) -> int:
    """Run one stage or `show`; 2 for what the caller got wrong."""
    if not arguments or arguments[0] not in {*STAGES, "show"}:
        lines = "\n".join(f"  {name:16} {what}" for name, what in (STAGES | {"show": SHOW}).items())
        print(f"{USAGE}\n\nstages, and show:\n{lines}")
        return 0 if arguments[:1] in (["--help"], ["-h"]) else 2
    name, *rest = arguments
    is_first = os.environ.get("RANK", "0") == "0"
    if name not in SHARED and not is_first:
        return 0
    try:
        call = _parse_show(rest) if name == "show" else _parse_stage(name, rest)
        level = logging.INFO if is_first else logging.WARNING
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        call()
    except ImportError as error:
        print(f"{name}: {error}; install what training needs: pip install 'motion-r1[train]'", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def _parse_stage(name: str, arguments: list[str]) -> Callable[[], None]:
    stage = importlib.import_module(f"python_core.stages.{name.replace('-', '_')}")
    preset = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "small"
    if preset not in stage.PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(stage.PRESETS)}")
    import tyro

    config = tyro.cli(
        type(stage.PRESETS[preset]),
        default=stage.PRESETS[preset],
        args=arguments,
        prog=f"python -m python_core {name} {preset}",
    )

    def call() -> None:
        stage.run(config)
        if name in SHARED:
            from python_core.processes import close_processes

            close_processes()

    return call


def _parse_show(arguments: list[str]) -> Callable[[], None]:
    import tyro

    from python_core import show

    config = tyro.cli(show.ShowConfig, args=arguments, prog="python -m python_core show")

    def call() -> None:
        show.run(config)
        print(f"wrote {config.out}")

    return call


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
