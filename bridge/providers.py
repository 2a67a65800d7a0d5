"""Where ONNX Runtime runs a graph: asked for by name, and checked afterwards.

ONNX Runtime answers a missing provider with a log line and a session on the CPU. Here that is an error.
"""

import contextlib
import importlib
import importlib.metadata
import io
import logging
import os
import re
import warnings
from pathlib import Path

import onnxruntime as ort

from bridge import tensorrt_engines
from python_core.contract.bundle import BundleError, LanguageModelGraph, Manifest, MotionDecoderGraph

logger = logging.getLogger(__name__)

AUTO = "auto"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""What we call a provider -> ONNX Runtime's own names: the one that is asked for, then those that may fill its gaps."""
KNOWN = (AUTO, *PROVIDERS)
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""Of providers. CUDA multiplies float32 with 10 bits of its digits unless told otherwise, which the pose solver's
rotations do not survive: on an H100 they were no unit quaternions any more.
"""
ALLOW_TF32 = "NVIDIA_TF32_OVERRIDE"
"""The same for TensorRT, which has no such option: a variable that NVIDIA's libraries read once, when they begin."""

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
INSTALL = {
    "cpu": "pip install '.[bridge]'",
    "cuda": "pip install '.[bridge-gpu]'",
    "tensorrt": "pip install '.[bridge-gpu,tensorrt]'",
}
RUNS_ON = {"cpu": ("cpu",), "cuda": ("cuda", "cpu"), "tensorrt": ("tensorrt", "cuda", "cpu")}
"""What a bundle was exported for -> where its graphs have kernels, best first. A graph in float16 for CUDA opens on the
CPU as well, slowly; one for the CPU has none on CUDA.
"""

_NEWER = r"IR version|opset|unrecognized attribute|no op registered|not a registered|input size \d+ not in range"
"""What ONNX Runtime says of formats, operators and inputs of operators that came after it."""

# An ONNX model of one Identity node, float32 [1] -> [1]: the smallest thing that a provider can load.
_PROBE = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01pZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08'
    b"\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


class ProviderError(ValueError):
    """A provider that is unknown or does not load; names what loads and the remedy."""


def check_name(name: str) -> None:
    """Refuse a name that is not one of `KNOWN`.

    Raises:
        ProviderError: The name is unknown.
    """
    if name not in KNOWN:
        raise ProviderError(f"unknown provider {name!r}; known are {', '.join(KNOWN)}")


def installed_packages() -> dict[str, str]:
    """Versions of the ONNX Runtime packages that are installed. More than one is a mistake: they share one folder."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def package_conflict() -> str | None:
    """Say what is wrong where two packages of ONNX Runtime are installed; None where one is."""
    packages = installed_packages()
    if len(packages) < 2:
        return None
    versions = " and ".join(f"{package} {version}" for package, version in packages.items())
    return (
        f"{versions} are both installed; they share one folder and overwrite each other, and GPU providers vanish; "
        f"pip uninstall -y {' '.join(packages)}, then install one of '.[bridge]' and '.[bridge-gpu]'"
    )


def why_missing(name: str) -> str | None:
    """Say why a provider does not load, with the remedy; None if it loads."""
    wanted = PROVIDERS[name][0]
    if wanted not in ort.get_available_providers():
        if conflict := package_conflict():
            return conflict
        packages = ", ".join(installed_packages()) or "no package"
        return f"this ONNX Runtime ({packages}) has no {wanted}; {INSTALL[name]}"
    if name == "tensorrt" and (reason := _why_no_tensorrt()):
        return reason
    try:
        _create(_PROBE, name, num_threads=1)
    except (ProviderError, BundleError) as error:
        return str(error)
    return None


def _why_no_tensorrt() -> str | None:
    _load_libraries()
    try:
        tensorrt_engines.tensorrt_version()
    except OSError as error:
        return (
            f"the provider is linked with {tensorrt_engines.LIBRARY}, which does not load ({error}); "
            f"TensorRT 10 brings it, 11 does not: {tensorrt_engines.INSTALL}"
        )
    return None


def choose(name: str, made_for: str = "cpu") -> str:
    """Turn `auto` into the best provider that loads and that the bundle has graphs for, and say which and why.

    Args:
        name: One of `KNOWN`.
        made_for: What the bundle was exported for.

    Raises:
        ProviderError: The name is unknown, or the bundle's graphs are not for it.
    """
    check_name(name)
    fitting = RUNS_ON[made_for]
    if name != AUTO:
        if name not in fitting:
            raise ProviderError(
                f"provider {name}: this bundle was exported for {made_for} and runs on {', '.join(fitting)}; "
                f"export it again with --provider {name}, or ask for {made_for}"
            )
        return name
    reasons = []
    for candidate in fitting:
        reason = why_missing(candidate)
        if reason is None:
            because = "; ".join([f"the bundle was exported for {made_for}", *reasons])
            logger.info("provider auto: chose %s (%s)", candidate, because)
            return candidate
        reasons.append(f"{candidate} does not load: {reason}")
    raise ProviderError(f"provider auto: nothing loads that this bundle runs on; {'; '.join(reasons)}")


def open_session(
    path: Path, name: str, num_threads: int = 1, graph: LanguageModelGraph | MotionDecoderGraph | None = None
) -> ort.InferenceSession:
    """Open a graph on the provider that was asked for.

    On TensorRT engines are built at the first opening, which takes minutes, and kept beside the bundle.

    Args:
        path: The ONNX file.
        name: One of `PROVIDERS`.
        num_threads: Threads of one step; 0 is one a core.
        graph: What the manifest says of it: TensorRT needs its profiles.

    Raises:
        ProviderError: The provider is unknown, does not load, or ONNX Runtime would have used another one.
        BundleError: The graph cannot be opened, or there are engines that this bridge has not built.
    """
    if name not in PROVIDERS:
        raise ProviderError(f"unknown provider {name!r}; known are {', '.join(PROVIDERS)}")
    if PROVIDERS[name][0] not in ort.get_available_providers():
        raise ProviderError(f"provider {name}: {why_missing(name)}")
    if name == "tensorrt":
        return _open_on_tensorrt(path, num_threads, graph)
    return _create(path, name, num_threads)


def _open_on_tensorrt(
    path: Path, num_threads: int, graph: LanguageModelGraph | MotionDecoderGraph | None, context: bool = False
) -> ort.InferenceSession:
    if reason := _why_no_tensorrt():
        raise ProviderError(f"provider tensorrt: {reason}")
    graph = _check_profiles(path, graph)
    try:
        key = tensorrt_engines.this_machine(path, graph.profiles)
    except OSError as error:
        raise ProviderError(f"provider tensorrt: {error}") from error
    engines = tensorrt_engines.EngineFolder(path, key)
    # A decoder's float16 is how its weights are stored; it computes in float32.
    fp16 = isinstance(graph, LanguageModelGraph) and graph.precision == "fp16"
    with engines.locked():
        kept = engines.path / f"{path.stem}_ctx.onnx"
        folder = engines.open(more=context and not kept.is_file())
        options = tensorrt_engines.options(folder, graph.profiles, fp16, context)
        session = _create(kept if kept.is_file() else path, "tensorrt", num_threads, options)
        engines.close(folder)
    return session


def _check_profiles(
    where: Path | str, graph: LanguageModelGraph | MotionDecoderGraph | None
) -> LanguageModelGraph | MotionDecoderGraph:
    if graph is None or not graph.profiles:
        raise BundleError(f"{where}: has no profiles for TensorRT; export it again with --provider tensorrt")
    return graph


def check_names(path: Path, session: ort.InferenceSession, inputs: set[str], outputs: set[str]) -> None:
    """Compare a graph's inputs and outputs with those that are needed.

    Raises:
        BundleError: They differ.
    """
    for kind, expected, values in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", outputs, session.get_outputs()),
    ):
        actual = {value.name for value in values}
        if actual != expected:
            raise BundleError(
                f"{path}: {kind} differ from the manifest: lacks {sorted(expected - actual)}, "
                f"has besides {sorted(actual - expected)}; export the bundle again"
            )


def graphs_on_tensorrt(manifest: Manifest) -> tuple[LanguageModelGraph, MotionDecoderGraph]:
    """Graphs that have engines; a depth head runs on CUDA."""
    return manifest.language_model, manifest.motion_decoder


def most_rows(manifest: Manifest) -> int:
    """Rows of a step that a bundle's engines take; for one more, TensorRT would build them anew for minutes.

    Raises:
        BundleError: A graph has no profiles.
    """
    for graph in graphs_on_tensorrt(manifest):
        _check_profiles(graph.file, graph)
    return min(profile.max[0] for graph in graphs_on_tensorrt(manifest) for profile in graph.profiles)


def build_engine(folder: Path, graph: LanguageModelGraph | MotionDecoderGraph, context: bool) -> Path:
    """Build what TensorRT needs for a graph, so that the first start does not wait for it.

    Args:
        folder: The bundle, in its place.
        graph: One of `graphs_on_tensorrt`.
        context: Whether to write an ONNX file that holds nothing but the engine, which opens fastest.

    Returns:
        Folder of the engine.

    Raises:
        ProviderError: TensorRT does not load.
        BundleError: The bundle was not exported for it, or there are engines that this bridge has not built.
    """
    path = folder / graph.file
    _open_on_tensorrt(path, 1, graph, context)
    return tensorrt_engines.EngineFolder(path, tensorrt_engines.this_machine(path, graph.profiles)).path


def _remedy(error: str) -> str:
    if re.search(_NEWER, error, re.IGNORECASE):
        packages = " ".join(installed_packages() or PACKAGES[:1])
        return (
            f"the graph is of a newer format than ONNX Runtime {ort.__version__} reads: update it "
            f"(pip install --upgrade {packages}), or export the bundle again beside the version that serves it"
        )
    return "export the bundle again"


def device(name: str) -> str:
    """Where a provider keeps its tensors, as ONNX Runtime names it."""
    return "cpu" if name == "cpu" else "cuda"


def session_options(num_threads: int) -> ort.SessionOptions:
    """How sessions run: threads of one step (0 is one a core), and no log but errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # An arena keeps the room of all that it once held, of weights in the file's type too; malloc is as fast here.
    options.enable_cpu_mem_arena = False
    # Idle threads that spin take the cores that the other streams need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _load_libraries() -> None:
    """Load the libraries of CUDA and TensorRT that pip has put where the loader does not look.

    They multiply float32 with all of its digits, in the whole process.
    """
    os.environ[ALLOW_TF32] = "0"
    with contextlib.redirect_stdout(io.StringIO()):  # It prints what it does not find; asking shows the same, once.
        ort.preload_dlls()
    with contextlib.suppress(ImportError):
        importlib.import_module("tensorrt_libs")


def _create(
    model: Path | bytes, name: str, num_threads: int, provider_options: dict[str, str] | None = None
) -> ort.InferenceSession:
    options = session_options(num_threads)
    wanted = list(PROVIDERS[name])
    if name != "cpu":
        _load_libraries()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ONNX Runtime warns of its fallback; it is an error below.
            session = ort.InferenceSession(
                str(model) if isinstance(model, Path) else model,
                sess_options=options,
                providers=wanted,
                provider_options=[
                    OPTIONS.get(wanted[0], {}) | (provider_options or {}),
                    *(OPTIONS.get(one, {}) for one in wanted[1:]),
                ],
            )
    except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
        where = model if isinstance(model, Path) else "probe"
        raise BundleError(f"{where}: ONNX Runtime cannot open it on {name} ({error}); {_remedy(str(error))}") from error
    if session.get_providers()[0] != wanted[0]:
        raise ProviderError(
            f"provider {name}: {wanted[0]} does not load, ONNX Runtime fell back to {session.get_providers()[0]}; "
            f"check the driver and its libraries with python -m bridge doctor, or ask for another provider"
        )
    return session
