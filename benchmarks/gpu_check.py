"""Everything that needs a GPU: export, parity and speed on CUDA and TensorRT, as JSON.

    python benchmarks/gpu_check.py runs/sft gpu_check.json

Each step is a process of its own. One that fails or crashes is written down with its reason, and the rest goes on;
when --budget-s are over, a step that still builds engines is stopped, what it had measured is kept, and the rest is
left out. With --provider cpu the same steps run on a machine without a GPU, which shows that the script works and
nothing else.
"""

import argparse
import json
import logging
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from bridge import tensorrt_engines
from bridge.decoder import Decoder
from bridge.depth_head import DepthHead, open_depth_head
from bridge.engine import Engine
from bridge.engine import Step as EngineStep
from bridge.providers import PROVIDERS, installed_packages, why_missing
from bridge.sampler import Sampler
from export.bundle_writer import export_bundle
from export.config import ExportConfig, Precision, Provider
from python_core.contract.bundle import BundleError, Manifest
from python_core.contract.vocabulary import Position, TokenLayout

logger = logging.getLogger("gpu_check")

BUNDLES: dict[Provider, tuple[Precision, ...]] = {
    "cpu": ("int8",),
    "cuda": ("fp16", "int8", "int4"),
    "tensorrt": ("fp32", "fp16"),
}
PARITY_TOKENS = 500
NUM_POSITIONS, NUM_CODES = 200, 100
STREAMS = (1, 16)
"""At once; engines of TensorRT take 16 rows at most."""


@dataclass
class Step:
    """One bundle on one provider."""

    provider: Provider
    precision: Precision
    seconds: dict[str, float] = field(default_factory=dict)
    """How long export (with parity and, on TensorRT, engines), opening and measuring took."""
    parity: dict[str, Any] = field(default_factory=dict)
    speed: dict[int, dict[str, float]] = field(default_factory=dict)
    """By the number of streams that run together."""
    error: str = ""
    """Empty where all went well."""


def check(checkpoint: Path, providers: list[Provider], budget_s: float) -> dict[str, Any]:
    """Run all steps for which there is time.

    Args:
        checkpoint: Folder that train-sft wrote.
        providers: Where to run.
        budget_s: When all is over.
    """
    begun = time.monotonic()
    steps = []
    for provider in providers:
        for precision in BUNDLES[provider]:
            logger.info("%s %s", provider, precision)
            step = _run_apart(checkpoint, Step(provider, precision), begun + budget_s)
            steps.append(step)
            if step.error:
                logger.error("%s %s: %s", provider, precision, step.error)
    return {
        "machine": _machine(),
        "seconds": round(time.monotonic() - begun, 1),
        "providers": {name: why_missing(name) or "loads" for name in PROVIDERS},
        "steps": [asdict(step) for step in steps],
    }


def _run_apart(checkpoint: Path, step: Step, end_s: float) -> Step:
    """What came of a step until a time of `time.monotonic`."""
    if time.monotonic() > end_s:
        return replace(step, error="left out: the time was over")
    # Forked from a process that has imported all and opened nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["export.bundle_writer"])
    heard, tell = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        child = context.Process(target=_work, args=(checkpoint, Path(folder) / "bundle", asdict(step), tell))
        child.start()
        tell.close()
        step.error = "stopped: the time was over"
        try:
            while heard.poll(max(0.0, end_s - time.monotonic())):
                step = Step(**heard.recv())
        except EOFError:
            child.join()
            if child.exitcode:
                step.error = f"crashed: the process ended with {child.exitcode}"
        child.kill()
        child.join()
    return step


def _work(checkpoint: Path, bundle: Path, fields: dict[str, Any], tell: Connection) -> None:
    """Run a step, and tell after each part what has come of it so far, as if it were stopped there."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    step = Step(**fields)
    try:
        _run(checkpoint, bundle, step, lambda: tell.send(asdict(step) | {"error": "stopped: the time was over"}))
    except Exception as error:  # Whatever fails on a GPU is what this script is to tell.
        step.error = f"{type(error).__name__}: {error}"
    tell.send(asdict(step))


def _run(checkpoint: Path, bundle: Path, step: Step, tell: Callable[[], None]) -> None:
    provider, timed = step.provider, partial(_timed, step, tell)
    config = ExportConfig(
        provider=provider, precision=step.precision, parity_tokens=PARITY_TOKENS, calibration_tokens=4000
    )
    manifest = timed("export", lambda: export_bundle(checkpoint, bundle, config))
    assert manifest.parity is not None
    step.parity = asdict(manifest.parity)
    engine = timed(
        "open_language_model", lambda: Engine(bundle, manifest.language_model, provider, max_rows=max(STREAMS))
    )
    head = timed("open_depth_head", lambda: open_depth_head(bundle, manifest, engine.state_width, provider))
    decoder = timed("open_motion_decoder", lambda: Decoder(bundle, manifest, provider))
    expected = PROVIDERS[provider][0]
    for name, got in (("language model", engine.provider), ("motion decoder", decoder.provider)):
        if got != expected:
            raise RuntimeError(f"the {name} runs on {got}, expected {expected}")
    for num_streams in STREAMS:
        timed(f"measure {num_streams}", partial(_measure, engine, head, decoder, manifest, step, num_streams))


def _measure(
    engine: Engine, head: DepthHead | None, decoder: Decoder, manifest: Manifest, step: Step, num_streams: int
) -> None:
    """Time codes as they are written and decoded, of streams that run together, after a warm-up."""
    random = np.random.default_rng(0)
    layout = manifest.tokens
    num_positions = min(NUM_POSITIONS, manifest.language_model.max_positions // 2)
    prompts = [layout.fold(random.integers(layout.first_code, size=32).tolist()) for _ in range(num_streams)]
    codes = random.integers(manifest.tokens.num_codes, size=NUM_CODES).tolist()
    for warm in (False, True):
        times = _write(engine, head, layout, prompts, num_positions)
        states, decoded = [decoder.start()] * num_streams, [time.perf_counter()]
        for code in codes:
            states = [state for _, state in decoder.run([[code]] * num_streams, states)]
            decoded.append(time.perf_counter())
        if warm:
            step.speed[num_streams] = {
                "first_position_ms": 1000 * (times[1] - times[0]),
                "positions_per_s": num_streams * (len(times) - 2) / (times[-1] - times[1]),
                "code_ms_median": 1000 * float(np.median(np.diff(decoded))),
            }


def _write(
    engine: Engine, head: DepthHead | None, layout: TokenLayout, prompts: Sequence[list[Position]], num_positions: int
) -> list[float]:
    """When prompts were given, and when all streams had their next code, the likeliest, in seconds."""
    times = [time.perf_counter()]
    rows = [engine.join([prompt]) for prompt in prompts]
    try:
        for row in rows:
            row.pauses = True
        while any(row.num_pending > 1 for row in rows):
            _step(engine)
        for row in rows:
            row.pauses = False
        for _ in range(num_positions):
            written = _step(engine)
            codes = [[int(logits[layout.first_code :].argmax())] for logits in written.logits]
            if head is not None:
                samplers = [Sampler(0, 0.0, 1.0) for _ in codes]
                spoken = head.speak(written.states, [first for (first,) in codes], samplers)
                for code, others in zip(codes, spoken, strict=True):
                    if isinstance(others, BundleError):
                        raise others
                    code += others
            for row, code in zip(written.rows, codes, strict=True):
                row.feed(layout.fold(layout.entry_ids(code)))
            times.append(time.perf_counter())
    finally:
        for row in rows:
            engine.leave(row)
    return times


def _step(engine: Engine) -> EngineStep:
    step = engine.step()
    for _, error in step.failed:
        raise error
    return step


def _timed(step: Step, tell: Callable[[], None], name: str, run: Callable[[], Any]) -> Any:
    begun = time.monotonic()
    try:
        return run()
    finally:
        step.seconds[name] = round(time.monotonic() - begun, 2)
        tell()


def _machine() -> dict[str, str]:
    found = {"python": platform.python_version(), "onnxruntime": ort.__version__} | installed_packages()
    for name, ask in (("gpu", tensorrt_engines.gpu_name), ("tensorrt", tensorrt_engines.tensorrt_version)):
        try:
            found[name] = ask()
        except OSError as error:
            found[name] = f"none ({error})"
    return found


def main(arguments: list[str]) -> int:
    """Write the JSON; 1 where a step failed."""
    parser = argparse.ArgumentParser(description="Export, parity and speed on CUDA and TensorRT.")
    parser.add_argument("checkpoint", type=Path, help="folder that train-sft wrote")
    parser.add_argument("out", type=Path, help="JSON to write")
    parser.add_argument("--provider", action="append", choices=tuple(BUNDLES), help="default: cuda and tensorrt")
    parser.add_argument("--budget-s", type=float, default=570.0, help="when all is over (default %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logger.setLevel(logging.INFO)
    found = check(options.checkpoint, options.provider or ["cuda", "tensorrt"], options.budget_s)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    failed = [step for step in found["steps"] if step["error"]]
    print(f"{options.out}: {len(found['steps']) - len(failed)} of {len(found['steps'])} steps, {found['seconds']} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
