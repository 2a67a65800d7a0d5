"""The bundle: a folder that export writes and the bridge loads, and the manifest that describes it.

manifest.json           written last; a folder that has one is complete
language_model.onnx     the LM with its KV cache; large weights lie beside it in language_model.N.bin
depth_head.onnx         the levels of a code after its first, where codes have several
motion_decoder.onnx     codes and state -> root positions, joint rotations, contacts and state
tokenizer.json          text <-> token ids
MODEL_CARD.md           data, licences, measures
"""

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_core.contract.skeleton import Skeleton
from python_core.contract.vocabulary import TokenLayout

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
DIGEST = "manifest_sha256"
"""Field of the manifest: SHA-256 of the manifest without it."""
TOKENIZER = "tokenizer.json"


class BundleError(ValueError):
    """A bundle that cannot be used; names the file, the reason and the remedy."""


@dataclass(frozen=True, kw_only=True)
class ShapeProfile:
    """Shapes of a graph's input that an engine of TensorRT is built for; another shape would build it anew."""

    input: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    """The one that it is fastest at."""
    max: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LanguageModelGraph:
    """Reads `input_ids` int64 [B, P, levels] (tokens by position, -1 where one has no token of a level),
    `attention_mask` [B, past + P] (1 for each position) and, for each layer N, `past_key_values.N.key` and `.value`
    [B, num_kv_heads, past, head_dim]; writes, after the last position, `logits` [B, 1, V] of the next one's first
    token, where V leaves out the tokens of later levels, `states` [B, 1, width], from which a depth head goes on, and
    `present.N.key` and `.value` [B, num_kv_heads, past + P, head_dim]. Keys and values are floats as they are computed,
    or int8.

    Or its head is in two parts, each of which speaks for the rows of the batch that are named to it: then it reads
    `word_rows` and `motion_rows` as well, int64 [N] each, and instead of `logits` it writes `word_logits` [N, 1, W] of
    the first W tokens and `motion_logits` [N, 1, V - W] of the others.
    """

    file: str
    num_layers: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    """Longest prompt and reply together."""
    precision: str
    """fp32, fp16, int8 or int4."""
    weights: str
    """How the weights are written, in words."""
    profiles: tuple[ShapeProfile, ...]
    """Of every input, for TensorRT; empty for other providers."""


@dataclass(frozen=True, kw_only=True)
class DepthHeadGraph:
    """Reads `states` [B, width] of the language model, from which the first levels of codes were spoken, `given` int64
    [B, levels] (entries by level, each counted from 0; -1 where one is to be drawn, never in the first), `chances`
    float64 [B, levels - 1] (a random number for each draw, from 0 to less than 1) and `temperatures` [B, 1], above 0.
    Writes `entries` int64 [B, levels - 1] after the first, as they were given or drawn, -1 in all of a row with a logit
    that is not finite, and `logits` [B, levels - 1, level_size], of each level after the entries before it.
    """

    file: str
    precision: str
    """fp32, fp16 or int8."""
    weights: str
    """How the weights are written, in words."""
    temperature: float
    """Times a request's own; 0 takes the likeliest. The first level says what is done, the others refine it."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class GraphState:
    """What a graph reads under a name and writes as `next_` and the name; zeros before the first run."""

    name: str
    shape: tuple[int, ...]
    """Of one stream."""


@dataclass(frozen=True, kw_only=True)
class MotionDecoderGraph:
    """Reads `codes` int64 [B, T] and the states of B streams, writes `root_positions_m` [B, F, 3], `joint_rotations`
    [B, F, J, 4], `contacts` [B, F, 4] (on the ground above 0.5) and the next states.

    The first states are `root_state` [B, 3] (x and z in metres and yaw in radians at which the next frame begins),
    `last_bones` [B, J, 3] and `last_limbs` [B, L, 4], vectors and rotations that turn with the body in the world. The
    others do not depend on where it is.
    """

    file: str
    states: tuple[GraphState, ...]
    precision: str
    """fp32, fp16 or int8."""
    profiles: tuple[ShapeProfile, ...]
    """Of every input, for TensorRT; empty for other providers."""


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """How replies are drawn when a request does not say."""

    temperature: float
    top_p: float
    reasoning_temperature: float = 1.0
    """Of the reasoning, times the temperature, also where a request says one; 0 takes the likeliest words."""

    def __post_init__(self) -> None:
        if not self.reasoning_temperature >= 0:
            raise ValueError(f"reasoning_temperature must be 0 or more, got {self.reasoning_temperature}")


@dataclass(frozen=True, kw_only=True)
class LanguageModelParity:
    """The checkpoint in torch against the session, which reads the same prompts and replies as it serves them."""

    num_tokens: int
    """Of all levels."""
    max_logit_difference: float
    max_logit_difference_tolerance: float | None
    """None for quantized weights, whose logits are others."""
    argmax_agreement: float
    """Share of places with the same likeliest token."""
    min_argmax_agreement: float
    mean_kl: float
    """Kullback-Leibler divergence of the session's next token from torch's, in nats, averaged over all."""
    max_mean_kl: float


@dataclass(frozen=True, kw_only=True)
class MotionDecoderParity:
    """The checkpoint's whole clips in torch against the session, code by code."""

    num_frames: int
    max_root_difference_m: float
    max_root_difference_tolerance_m: float | None
    """None where weights are rounded."""
    max_rotation_difference_deg: float
    max_rotation_difference_tolerance_deg: float | None
    mean_joint_difference_m: float
    """Joints about the root, averaged over joints and frames."""
    mean_joint_difference_tolerance_m: float
    score: float
    """Of the quality report, averaged over the session's motions."""
    reference_score: float
    """The same of torch's motions."""
    max_score_loss: float


@dataclass(frozen=True, kw_only=True)
class JudgeParity:
    """What an evaluator says of replies that are sampled with the same seeds, before quantization and after."""

    num_replies: int
    r_at_3_before: float
    r_at_3: float
    max_r_at_3_loss: float
    kid_before: float
    kid: float
    max_kid_gain: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What export measured between torch and the bridge's own sessions, and what it would have refused."""

    provider: str
    """Where the sessions ran, as ONNX Runtime names it."""
    language_model: LanguageModelParity
    motion_decoder: MotionDecoderParity
    judge: JudgeParity | None
    """None where export was given no judge."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that the bridge needs to know of a bundle."""

    format_version: int
    model_id: str
    provider: str
    """What the graphs are made for: cpu, cuda or tensorrt."""
    files: dict[str, str]
    """SHA-256, lower-case hex, of every file of the bundle but the manifest, by name."""
    skeleton: Skeleton
    frame_rate_hz: float
    frames_per_code: int
    prompt_template: str
    """Holds `{prompt}` once."""
    tokens: TokenLayout
    language_model: LanguageModelGraph
    depth_head: DepthHeadGraph | None
    """None where codes have one level."""
    motion_decoder: MotionDecoderGraph
    sampling: SamplingDefaults
    parity: Parity | None
    """None only while export measures it."""
    licence: str
    data_notice: str

    def __post_init__(self) -> None:
        if self.prompt_template.count("{prompt}") != 1:
            raise ValueError(f"prompt_template must hold {{prompt}} once, got {self.prompt_template!r}")
        if not (0 < self.frame_rate_hz < float("inf") and self.frames_per_code > 0):
            raise ValueError(f"no motion has {self.frame_rate_hz} frames a second, {self.frames_per_code} a code")
        if (self.depth_head is None) != (self.tokens.num_levels == 1):
            has = "no" if self.depth_head is None else "a"
            raise ValueError(f"codes of {self.tokens.num_levels} levels and {has} depth_head do not go together")

    @property
    def graphs(self) -> tuple[LanguageModelGraph | DepthHeadGraph | MotionDecoderGraph, ...]:
        """Of all that is computed."""
        depth_head = () if self.depth_head is None else (self.depth_head,)
        return (self.language_model, *depth_head, self.motion_decoder)


@dataclass(frozen=True)
class Bundle:
    """A folder whose files are those of its manifest."""

    folder: Path
    manifest: Manifest
    revision: str
    """SHA-256 of the manifest, lower-case hex."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, after all other files of the bundle."""
    assert manifest.parity is not None, "a bundle's parity is measured before it is one"
    fields = dataclasses.asdict(manifest)
    (folder / MANIFEST).write_bytes(_manifest_bytes(fields | {DIGEST: _digest(fields)}))


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest and check every file.

    Raises:
        BundleError: There is no bundle, it has another format version, a field is missing, unknown or of another
            type, or a file is missing or differs from what was exported.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder}: no {MANIFEST}, so no complete bundle; make one with python -m export")
    raw = path.read_bytes()
    try:
        fields = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); export the bundle again") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format_version {version}, this bridge reads {FORMAT_VERSION}; "
            "export it again or update the bridge"
        )
    digest = fields.pop(DIGEST, None)
    if digest != _digest(fields) or raw != _manifest_bytes(fields | {DIGEST: digest}):
        raise BundleError(f"{path}: changed or damaged since it was written; copy the bundle again or export it again")
    manifest: Manifest = _read_fields(path, "manifest", Manifest, fields)
    if manifest.parity is None:
        raise BundleError(f"{path}: parity was not measured; export the bundle again")
    needed = {*(graph.file for graph in manifest.graphs), TOKENIZER}
    if missing := sorted(needed - manifest.files.keys()):
        raise BundleError(f"{path}: files lacks {', '.join(missing)}; export the bundle again")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise BundleError(f"{path}: {name!r} is not a file name; a bundle's files lie beside its manifest")
        if not (folder / name).is_file():
            raise BundleError(f"{folder / name}: missing; copy the whole bundle or export it again")
        if (actual := sha256(folder / name)) != expected:
            raise BundleError(
                f"{folder / name}: SHA-256 is {actual}, the manifest says {expected}; "
                "the file was changed or damaged: copy the bundle again or export it again"
            )
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())


def _manifest_bytes(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_manifest_bytes(fields)).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_fields(path: Path, name: str, kind: type, fields: Any) -> Any:
    if not isinstance(fields, dict):
        raise BundleError(f"{path}: {name} must be an object, got {fields!r}; export the bundle again")
    types_of = typing.get_type_hints(kind)
    # What has a default came later than some bundles.
    needed = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    if missing := sorted(needed - fields.keys()):
        raise BundleError(f"{path}: {name} lacks {', '.join(missing)}; export the bundle again")
    if unknown := sorted(fields.keys() - types_of.keys()):
        raise BundleError(f"{path}: {name} has unknown fields {', '.join(unknown)}; update the bridge")
    try:
        return kind(**{field: _read_value(path, field, types_of[field], value) for field, value in fields.items()})
    except BundleError:
        raise
    except (TypeError, ValueError) as error:
        raise BundleError(f"{path}: {name} is not valid ({error}); export the bundle again") from error


def _read_value(path: Path, name: str, kind: Any, value: Any) -> Any:
    """A value of a type that a manifest has: of JSON, an object with fields, a tuple, or None beside one of them."""
    origin: Any = typing.get_origin(kind)
    inner = typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _read_value(path, name, inner[0], value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_fields(path, name, kind, value)
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return tuple(_read_value(path, name, of, item) for of, item in zip(kinds, value, strict=True))
    expected: Any = origin or kind
    # JSON writes a whole float as an int.
    if not isinstance(value, (int, float) if expected is float else expected):
        raise TypeError(f"{name} must be {expected.__name__}, got {value!r}")
    return value
