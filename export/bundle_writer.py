"""Checkpoint -> bundle: two graphs, tokenizer, card, parity, and the manifest last."""

import dataclasses
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from export import language_model_graph, motion_decoder_graph
from export.language_model_graph import write_language_model_graph
from export.motion_decoder_graph import write_motion_decoder_graph
from export.parity import check_parity
from export.stored_weights import round_to_float16
from python_core.checkpoint import MOTION_TOKENIZER, load_language_model, load_vqvae
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
from python_core.language_model import token_layout
from python_core.motion_decoder import MotionDecoder
from python_core.vqvae import FRAMES_PER_CODE

logger = logging.getLogger(__name__)

CARD = "MODEL_CARD.md"
TOLERATED = Parity(
    provider="",
    max_logit_difference=0.0,
    max_logit_difference_tolerance=1e-3,
    argmax_agreement=0.0,
    min_argmax_agreement=1.0,
    num_positions=0,
    max_root_difference_m=0.0,
    max_root_difference_tolerance_m=1e-4,
    max_rotation_difference_deg=0.0,
    max_rotation_difference_tolerance_deg=0.01,
    num_frames=0,
)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What goes into a bundle besides the weights."""

    provider: str = "cpu"
    """Where the bridge will run it; the graphs of this version are for cpu and cuda."""

    temperature: float = 0.8
    """Sampling temperature when a request does not say."""

    top_p: float = 0.9
    """Nucleus when a request does not say."""

    licence: str = "see data_notice"
    """Licence of the weights, an SPDX expression or a name."""

    card: Path | None = None
    """A model card to put into the bundle, for example the one of the bundle that is written over; None writes one that
    says what is known.
    """

    num_positions: int = 500
    """Token positions on which torch and the session are compared."""


def export_bundle(checkpoint: Path, bundle: Path, config: ExportConfig) -> Manifest:
    """Write a bundle.

    Raises:
        ValueError: The checkpoint cannot be read, the provider is not one that these graphs are for, or the folder
            holds something that is not a bundle.
        ParityError: The graphs do not compute what the checkpoint computes. An old bundle stays as it was.
    """
    if config.provider not in ("cpu", "cuda"):
        raise ValueError(
            f"provider must be cpu or cuda, got {config.provider!r}; graphs for tensorrt are not written yet"
        )
    card = config.card.read_text(encoding="utf-8") if config.card is not None else None
    _check_target(bundle)
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=".export-") as folder:
        manifest = _build(checkpoint, Path(folder), config, card)
        _put_in_place(Path(folder), bundle)
    return manifest


def _build(checkpoint: Path, bundle: Path, config: ExportConfig, card: str | None) -> Manifest:
    with _progress() as progress:
        task = progress.add_task("reading the checkpoint")
        language_model = load_language_model(checkpoint)
        vqvae, normalizer, frame_rate_hz = load_vqvae(checkpoint / MOTION_TOKENIZER)
        round_to_float16(language_model.model)
        round_to_float16(vqvae)
        reference = MotionDecoder(vqvae, normalizer).eval()
        tokens = token_layout(language_model.tokenizer, vqvae.shape.codebook)

        progress.update(task, description="language model graph")
        weights = checkpoint / "language_model"
        lm_graph = write_language_model_graph(language_model.model, weights, bundle)
        progress.update(task, description="motion decoder graph")
        decoder_graph = write_motion_decoder_graph(reference, bundle)
        shutil.copyfile(weights / TOKENIZER, bundle / TOKENIZER)
        card = card or _card(config, language_model.model_id, language_model.data_notice)
        (bundle / CARD).write_text(card, encoding="utf-8")

        progress.update(task, description="parity")
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            model_id=language_model.model_id,
            files={},
            skeleton=BODY_22,
            frame_rate_hz=frame_rate_hz,
            frames_per_code=FRAMES_PER_CODE,
            prompt_template=PROMPT_TEMPLATE,
            tokens=tokens,
            language_model=lm_graph,
            motion_decoder=decoder_graph,
            sampling=SamplingDefaults(temperature=config.temperature, top_p=config.top_p),
            parity=TOLERATED,
            licence=config.licence,
            data_notice=language_model.data_notice,
        )
        parity = check_parity(
            language_model.model,
            language_model.tokenizer,
            reference,
            bundle,
            manifest,
            config.provider,
            config.num_positions,
        )
        files = {path.name: sha256(path) for path in sorted(bundle.iterdir())}
        manifest = dataclasses.replace(manifest, files=files, parity=parity)
        write_manifest(bundle, manifest)
    return manifest


def _check_target(bundle: Path) -> None:
    """Refuse a folder that is neither new nor empty nor an old bundle."""
    known = {MANIFEST, language_model_graph.FILE, motion_decoder_graph.FILE, TOKENIZER, CARD}
    found = bundle.iterdir() if bundle.is_dir() else ()
    if strange := sorted(path.name for path in found if path.name not in known):
        raise ValueError(f"{bundle}: holds {', '.join(strange)}; export into a new or empty folder, or an old bundle's")


def _put_in_place(built: Path, bundle: Path) -> None:
    """Replace a bundle by one that is complete."""
    bundle.mkdir(exist_ok=True)
    # Without its manifest, nobody takes what is there meanwhile for a bundle.
    (bundle / MANIFEST).unlink(missing_ok=True)
    for path in sorted(built.iterdir(), key=lambda path: path.name == MANIFEST):
        path.replace(bundle / path.name)


def _card(config: ExportConfig, model_id: str, data_notice: str) -> str:
    return f"# {model_id}\n\nLicence of the weights: {config.licence}\n\n## Trained on\n\n{data_notice}\n"


def _progress() -> Progress:
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
