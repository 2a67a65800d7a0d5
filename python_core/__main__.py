"""python -m python_core STAGE PRESET [--field value]"""

import importlib
import logging
import sys

STAGES = {
    "prepare": "clips in the HumanML3D layout -> features, captions, statistics",
    "train-vqvae": "features -> codes",
    "build-reasoning": "captions -> plans",
    "train-sft": "plans and codes -> a language model that speaks motion",
    "fetch-backbone": "pretrained weights of the small preset, checked by SHA-256",
}


def main(arguments: list[str]) -> int:
    """Run one stage; 2 for what the caller got wrong."""
    if not arguments or arguments[0] not in STAGES:
        lines = "\n".join(f"  {name:16} {what}" for name, what in STAGES.items())
        print(f"usage: python -m python_core STAGE PRESET [--field value]\n\nstages:\n{lines}")
        return 0 if arguments[:1] in (["--help"], ["-h"]) else 2
    name, *rest = arguments
    try:
        stage = importlib.import_module(f"python_core.stages.{name.replace('-', '_')}")
    except ImportError as error:
        print(f"{name}: {error}; install what training needs: pip install 'motion-r1[train]'", file=sys.stderr)
        return 2
    preset = rest.pop(0) if rest and not rest[0].startswith("-") else "small"
    if preset not in stage.PRESETS:
        print(f"{name}: no preset {preset!r}; there are {', '.join(stage.PRESETS)}", file=sys.stderr)
        return 2
    import tyro

    config = tyro.cli(
        type(stage.PRESETS[preset]),
        default=stage.PRESETS[preset],
        args=rest,
        prog=f"python -m python_core {name} {preset}",
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        stage.run(config)
    except (ValueError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
