"""Checkpoint -> bundle: graphs, tokenizer, card, parity, and the manifest last."""

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bridge.providers import PROVIDERS, build_engine, graphs_on_tensorrt
from bridge.tensorrt_engines import move_engines
from export import depth_head_graph, language_model_graph, motion_decoder_graph
from export.config import BITS, ExportConfig, check_config
from export.depth_head_graph import write_depth_head
from export.folded_graph import speak_first, speak_in_parts
from export.graph_file import is_weights, write_graph
from export.judge import check_with_judge
from export.language_model_graph import build_language_model
from export.motion_decoder_graph import write_motion_decoder_graph
from export.parity import check_language_model, check_motion_decoder
from export.portable_graph import build_portable_language_model, language_model_profiles
from export.quantization import largest_kept, quantize_language_model
from export.quantized_cache import quantize_cache
from export.replies import PROMPTS, WrittenReply, sample_replies
from export.source import Source, read_source
from export.stored_weights import store_weights_as_float16
from python_core.clips.prepared import read_prepared
from python_core.contract.bundle import (
    FORMAT_VERSION,
    MANIFEST,
    TOKENIZER,
    Manifest,
    Parity,
    SamplingDefaults,
    sha256,
    write_manifest,
)
from python_core.contract.skeleton import BODY_22
from python_core.contract.vocabulary import PROMPT_TEMPLATE
from python_core.vqvae import FRAMES_PER_CODE

logger = logging.getLogger(__name__)

CARD = "MODEL_CARD.md"
STAGED = ".export-"
"""Folders in a bundle that begin so are of an export that did not end."""
CALIBRATION_SEED = 1000
"""Replies of calibration are others than those that are compared."""


def export_bundle(checkpoint: Path, bundle: Path, config: ExportConfig) -> Manifest:
    """Write a bundle.

    Raises:
        ValueError: The checkpoint cannot be read, there is no such provider or precision, or the folder holds something
            that is not a bundle.
        ParityError: The graphs do not compute what the checkpoint computes. An old bundle stays as it was.
        OSError: There is no room on the disk. An old bundle stays as it was.
    """
    check_config(config)
    _warn(config)
    card = config.card.read_text(encoding="utf-8") if config.card is not None else None
    _check_target(bundle)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=".export-") as folder, _progress() as progress:
        built = Path(folder) / "bundle"
        built.mkdir()
        manifest = _build(read_source(checkpoint), built, config, card, progress)
        _put_in_place(built, bundle)
        # Parity on TensorRT has built them.
        move_engines(built, bundle)
        if config.build_engines:
            for graph in progress.track(graphs_on_tensorrt(manifest), description="engines, minutes each"):
                logger.info("engine: %s", build_engine(bundle, graph, config.ep_context))
    return manifest


def _build(source: Source, bundle: Path, config: ExportConfig, card: str | None, progress: Progress) -> Manifest:
    captions = _captions(config)
    replies = sample_replies(source, captions, config.parity_tokens, 0, progress, "replies to compare")
    for_tensorrt = config.provider == "tensorrt"
    graph, weights = _language_model(source, config, captions, bundle.parent, progress)
    profiles = language_model_profiles(source) if for_tensorrt else ()
    write_graph(graph, bundle / language_model_graph.FILE)
    head = getattr(source.language_model, "depth_head", None)
    task = progress.add_task("motion decoder graph", total=1)
    decoder_graph = write_motion_decoder_graph(source.motion_decoder, config.decoder_precision, bundle, for_tensorrt)
    progress.update(task, advance=1)
    shutil.copyfile(source.tokenizer_file, bundle / TOKENIZER)
    (bundle / CARD).write_text(card or _card(config, source), encoding="utf-8")
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_id=source.model_id,
        provider=config.provider,
        files={},
        skeleton=BODY_22,
        frame_rate_hz=source.frame_rate_hz,
        frames_per_code=FRAMES_PER_CODE,
        prompt_template=PROMPT_TEMPLATE,
        tokens=source.tokens,
        language_model=language_model_graph.describe(source, config.precision, weights, profiles),
        depth_head=None
        if head is None
        else write_depth_head(head, config.precision, bundle, config.depth_temperature, config.provider),
        motion_decoder=decoder_graph,
        sampling=SamplingDefaults(
            temperature=config.temperature, top_p=config.top_p, reasoning_temperature=config.reasoning_temperature
        ),
        parity=None,
        licence=config.licence,
        data_notice=source.data_notice,
    )
    parity = _check(source, bundle, manifest, config, replies, progress)
    files = {path.name: sha256(path) for path in sorted(bundle.iterdir())}
    manifest = dataclasses.replace(manifest, files=files, parity=parity)
    write_manifest(bundle, manifest)
    return manifest


def _language_model(
    source: Source, config: ExportConfig, captions: Sequence[str], scratch: Path, progress: Progress
) -> tuple[onnx.ModelProto, str]:
    """The graph in the precision that was asked for, and how its weights are written."""
    task = progress.add_task("language model graph", total=1)
    on_cuda = config.provider == "cuda"
    # The builder's attention has no kernel in float32 on CUDA.
    if config.provider == "tensorrt" or (on_cuda and config.precision == "fp32"):
        graph = build_portable_language_model(source, scratch)
    else:
        graph = build_language_model(source, "fp16" if on_cuda else "fp32", config.provider, scratch)
    progress.update(task, advance=1)
    bits, replies = BITS.get(config.precision), list[WrittenReply]()
    if bits or config.keeps_int8:
        asked = config.calibration_tokens
        replies = sample_replies(source, captions, asked, CALIBRATION_SEED, progress, "replies to calibrate")
    largest = largest_kept(source, graph, replies, progress) if config.keeps_int8 else None
    if bits:
        plain = build_language_model(source, "fp32", "cpu", scratch) if on_cuda else graph
        graph, weights = quantize_language_model(source, graph, plain, bits, replies, progress)
        _cut_head(graph, source, config.provider)
    else:
        _cut_head(graph, source, config.provider)
        weights = _write_floats(graph, config)
    if largest is not None:
        quantize_cache(graph, largest)
        weights = f"{weights}; keys and values: 8 bits, a scale for each channel"
    return graph, weights


def _write_floats(graph: onnx.ModelProto, config: ExportConfig) -> str:
    """Write weights as they were asked for, and say how."""
    if config.precision == "fp32":
        return "float32"
    if config.provider == "cuda":
        return "float16"
    store_weights_as_float16(graph)
    return "float16, computed in float32" if config.provider == "cpu" else "float16"


def _cut_head(graph: onnx.ModelProto, source: Source, provider: str) -> None:
    """Let the head speak what no depth head speaks; on a CPU, where a head takes a good part of a step, in parts."""
    tokens = source.tokens
    if provider == "cpu":
        speak_in_parts(graph.graph, tokens.motion_close, tokens.num_spoken)
    else:
        speak_first(graph.graph, tokens.num_spoken)


def _check(
    source: Source,
    bundle: Path,
    manifest: Manifest,
    config: ExportConfig,
    replies: Sequence[WrittenReply],
    progress: Progress,
) -> Parity:
    provider = config.check_on or config.provider
    series = [reply.codes for reply in replies if reply.codes]
    series.append(tuple(np.random.default_rng(0).integers(manifest.tokens.num_codes, size=64).tolist()))
    return Parity(
        provider=PROVIDERS[provider][0],
        motion_decoder=check_motion_decoder(source.motion_decoder, bundle, manifest, provider, series, progress),
        language_model=check_language_model(source.language_model, bundle, manifest, provider, replies, progress),
        judge=None if config.judge is None else check_with_judge(source, bundle, manifest, provider, config, progress),
    )


def _warn(config: ExportConfig) -> None:
    """Say what the export goes without."""
    if config.prepared is None and (config.precision in BITS or config.keeps_int8):
        logger.warning("calibration asks %d fixed sentences; --prepared FOLDER asks captions", len(PROMPTS))
    if config.judge is None and config.precision in BITS:
        logger.warning("no judge looks at what %s does to motions; give --prepared and --judge", config.precision)


def _captions(config: ExportConfig) -> Sequence[str]:
    """What the model is asked: one caption of each train clip, in an order that does not depend on theirs.

    Raises:
        ValueError: There are no train clips with captions.
    """
    if config.prepared is None:
        return PROMPTS
    captions = [clip.captions[0] for clip in read_prepared(config.prepared).split("train") if clip.captions]
    if not captions:
        raise ValueError(f"{config.prepared}: no train clip has a caption; leave --prepared out")
    return [captions[place] for place in np.random.default_rng(0).permutation(len(captions))]


def _check_target(bundle: Path) -> None:
    """Refuse a folder that is neither new nor empty nor an old bundle."""
    found = {path.name for path in bundle.iterdir()} if bundle.is_dir() else set()
    graphs = {graph.FILE for graph in (language_model_graph, depth_head_graph, motion_decoder_graph)}
    known = {MANIFEST, *graphs, TOKENIZER, CARD}
    known |= {name for name in found if is_weights(name) or name.startswith(STAGED)}
    if strange := sorted(found - known):
        raise ValueError(f"{bundle}: holds {', '.join(strange)}; export into a new or empty folder, or an old bundle's")


def _put_in_place(built: Path, bundle: Path) -> None:
    """Replace a bundle by one that is complete."""
    bundle.mkdir(exist_ok=True)
    old = list(bundle.iterdir())
    # A link or a mount leads to another file system, where files are copied, for which there may be no room.
    with tempfile.TemporaryDirectory(dir=bundle, prefix=STAGED) as folder:
        files = [Path(shutil.move(path, folder)) for path in built.iterdir()]
        # Without its manifest, nobody takes what is there meanwhile for a bundle.
        (bundle / MANIFEST).unlink(missing_ok=True)
        for path in old:
            if path.name.startswith(STAGED):
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path in sorted(files, key=lambda path: path.name == MANIFEST):
            path.replace(bundle / path.name)


def _card(config: ExportConfig, source: Source) -> str:
    return f"# {source.model_id}\n\nLicence of the weights: {config.licence}\n\n## Trained on\n\n{source.data_notice}\n"


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )
