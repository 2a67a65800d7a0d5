"""What the bridge itself costs: python benchmarks/serve_cost.py [--bundle BUNDLE] [--work WORK [--shapes 24m]]

    first_frame    milliseconds from a request, idle and without a plan, to its first four frames, beside the parts of
                   that measured apart: reading the prompt, one code, its frames. Both in turn, each prompt a new one.
    memory         resident megabytes of `serve` after 64 streams, 8 at once, less those of a process with the same
                   imports and no bundle, beside the size of the bundle
    memory_24m, memory_smollm2
                   the same for bundles of the shapes of engine_speed.py, random weights in 4 bits, which lie in WORK or
                   are made there in some minutes
    import         seconds of `python -m bridge --help`, the least of five: other work can only add to it

What is subtracted has imported whatever `serve` has at its end, also what numpy imports at first use, and has done
nothing: it has no server and no session. So all that serving needs counts, the pages of ONNX Runtime's code among it.

Prints JSON. First frames are by the wall clock, so nothing else should run.
"""

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from random_weights import SHAPES, build, build_bundle

from bridge.bench import BenchConfig, measure
from bridge.connection import Connection
from bridge.reply import Reply
from bridge.request import MotionRequest
from bridge.sampler import draw
from bridge.server import DEFAULT_BUNDLE
from bridge.stream import Chunk, MotionModel
from python_core.contract.bundle import BundleError

PROMPT = "a person walks forward and raises hand number {}"
STREAMS = BenchConfig(streams=(8,), rounds=8)
"""After which memory is steady."""
IMPORTS = "bridge.__main__, bridge.server, bridge.stream, concurrent.futures.thread, numpy.ma, numpy.random"
"""All that `serve` has imported after streams."""
Drawn = TypeVar("Drawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    arguments = parser.parse_args()
    measured: dict[str, dict[str, Any]] = {
        "first_frame": asyncio.run(first_frame(arguments.bundle, arguments.rounds)),
        "memory": memory(arguments.bundle),
        "import": {"seconds": min(import_s() for _ in range(5))},
    }
    for name in arguments.shapes if arguments.work is not None else ():
        with contextlib.redirect_stdout(sys.stderr):  # The builder prints.
            folder = build(arguments.work / name, SHAPES[name])
        measured[f"memory_{name}"] = memory(build_bundle(folder, SHAPES[name]))
    print(json.dumps(measured, indent=2))


async def first_frame(bundle: Path, rounds: int) -> dict[str, float]:
    """Whole and parts, milliseconds, and the median of their ratios."""
    # The thread that makes motions owns its model, so the parts are measured on another one.
    whole, parts = MotionModel(bundle, "cpu"), MotionModel(bundle, "cpu")
    for model in (whole, parts):
        model.warm_up()
    whole_s, parts_s = [], []
    for number in range(-2, rounds):
        request = _request(number)
        began = time.perf_counter()
        events = whole.perform(request)
        assert isinstance(await anext(events), Chunk)
        whole_s.append(time.perf_counter() - began)
        await events.aclose()
        while whole.num_streams:
            await asyncio.sleep(0.001)
        parts_s.append(first_code_s(parts, request))
    whole.close()
    # The first two make room for what the others use again.
    pairs = [*zip(whole_s[2:], parts_s[2:], strict=True)]
    return {
        "whole_ms": 1000 * median(one for one, _ in pairs),
        "parts_ms": 1000 * median(other for _, other in pairs),
        "ratio": median(one / other for one, other in pairs),
    }


def first_code_s(model: MotionModel, request: MotionRequest) -> float:
    """Reading the prompt, drawing a code, decoding it, one straight after the other."""
    tokens = model.bundle.manifest.tokens
    prompt = model._check(request)
    reply = Reply(request, prompt, tokens, model.tokenizer, model.code_duration_s, lambda _: None)
    began = time.perf_counter()
    row = model.engine.join(reply.segments)
    row.allowed = reply.allowed()
    while not (step := model.engine.step()).rows:
        pass
    drawn = _good(draw(step.logits, [row.allowed], [reply.sampler])[0])
    spoken = [drawn]
    if model.depth_head is not None:
        others = _good(model.depth_head.speak(step.states, [drawn - tokens.first_code], [reply.sampler])[0])
        spoken = tokens.entry_ids([drawn - tokens.first_code, *others])
    code, _ = reply.take(spoken)
    assert code is not None, "no code may be longer than the shortest motion"
    model.decoder.decode([code], model.decoder.start())
    took_s = time.perf_counter() - began
    model.engine.leave(row)
    return took_s


def memory(bundle: Path) -> dict[str, Any]:
    """Megabytes of the server and of its imports."""
    imports = f"import {IMPORTS}, sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as bare:
        assert bare.stdout is not None
        bare.stdout.readline()
        bare_mb = resident_mb(bare.pid)
        bare.communicate()
    command = [sys.executable, "-m", "bridge", "serve", str(bundle), "--port", "0", "--web-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"gRPC (\S+:\d+),", server.stdout.readline())
        assert found is not None, "the server ended before it answered"
        (level,) = asyncio.run(_load(found[1]))
        served_mb = resident_mb(server.pid)
        server.terminate()
        server.communicate()
    bundle_mb = sum(path.stat().st_size for path in bundle.iterdir()) / 1e6
    return {
        "serve_mb": served_mb,
        "imports_mb": bare_mb,
        "bundle_mb": bundle_mb,
        "ratio": (served_mb - bare_mb) / bundle_mb,
        "streams": asdict(level)["complete"],
    }


async def _load(address: str) -> Any:
    return await measure(Connection((address,)), STREAMS)


def resident_mb(pid: int) -> float:
    """What a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1000


def import_s() -> float:
    """Of the command line's help."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bridge", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def _request(number: int) -> MotionRequest:
    return MotionRequest(
        prompt=PROMPT.format(number), seed=0, reasoning=False, max_codes=10, temperature=1.0, top_p=1.0
    )


def _good(drawn: Drawn | BundleError) -> Drawn:
    assert not isinstance(drawn, BundleError)
    return drawn


if __name__ == "__main__":
    main()
