"""Where ONNX Runtime runs a graph: asked for by name, and checked afterwards.

ONNX Runtime answers a missing provider with a log line and a session on the CPU. Here that is an error.
"""

import importlib.metadata
import logging
import warnings
from pathlib import Path

import onnxruntime as ort

from python_core.contract.bundle import BundleError

logger = logging.getLogger(__name__)

AUTO = "auto"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""What we call a provider -> ONNX Runtime's own names: the one that is asked for, then those that may fill its gaps."""
KNOWN = (AUTO, *PROVIDERS)

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
INSTALL = {
    "cpu": "pip install '.[bridge]'",
    "cuda": "pip install '.[bridge-gpu]'",
    "tensorrt": "pip install '.[bridge-gpu]'",
}

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


def why_missing(name: str) -> str | None:
    """Say why a provider does not load, with the remedy; None if it loads."""
    wanted = PROVIDERS[name][0]
    if wanted in ort.get_available_providers():
        try:
            _create(_PROBE, name, num_threads=1)
        except (ProviderError, BundleError) as error:
            return str(error)
        return None
    packages = installed_packages()
    if len(packages) > 1:
        return (
            f"{' and '.join(packages)} are both installed and overwrite each other; "
            f"pip uninstall -y {' '.join(packages)}, then {INSTALL[name]}"
        )
    return f"this ONNX Runtime ({', '.join(packages) or 'no package'}) has no {wanted}; {INSTALL[name]}"


def choose(name: str) -> str:
    """Turn `auto` into the best provider that loads, and say which; other names stay.

    TensorRT is only used when it is asked for: it cuts language models with Microsoft's own ops into pieces.

    Raises:
        ProviderError: The name is unknown.
    """
    check_name(name)
    if name != AUTO:
        return name
    reason = why_missing("cuda")
    chosen = "cpu" if reason else "cuda"
    logger.info("provider auto: chose %s%s", chosen, f" ({reason})" if reason else "")
    return chosen


def open_session(path: Path, name: str, num_threads: int = 1) -> ort.InferenceSession:
    """Open a graph on the provider that was asked for.

    Args:
        path: The ONNX file.
        name: One of `PROVIDERS`.
        num_threads: Threads of one step; 0 is one a core.

    Raises:
        ProviderError: The provider is unknown, does not load, or ONNX Runtime would have used another one.
        BundleError: The graph cannot be opened.
    """
    if name not in PROVIDERS:
        raise ProviderError(f"unknown provider {name!r}; known are {', '.join(PROVIDERS)}")
    if PROVIDERS[name][0] not in ort.get_available_providers():
        raise ProviderError(f"provider {name}: {why_missing(name)}")
    return _create(path, name, num_threads)


def device(name: str) -> str:
    """Where a provider keeps its tensors, as ONNX Runtime names it."""
    return "cpu" if name == "cpu" else "cuda"


def session_options(num_threads: int) -> ort.SessionOptions:
    """How sessions run: threads of one step (0 is one a core), and no log but errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Idle threads that spin take the cores that the other streams need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _create(model: Path | bytes, name: str, num_threads: int) -> ort.InferenceSession:
    options = session_options(num_threads)
    wanted = list(PROVIDERS[name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ONNX Runtime warns of its fallback; it is an error below.
            session = ort.InferenceSession(
                str(model) if isinstance(model, Path) else model, sess_options=options, providers=wanted
            )
    except Exception as error:  # ONNX Runtime's own exceptions share no narrower class.
        where = model if isinstance(model, Path) else "probe"
        raise BundleError(
            f"{where}: ONNX Runtime cannot open it on {name} ({error}); export the bundle again"
        ) from error
    if session.get_providers()[0] != wanted[0]:
        raise ProviderError(
            f"provider {name}: {wanted[0]} does not load, ONNX Runtime fell back to {session.get_providers()[0]}; "
            f"check the driver and its libraries with python -m bridge doctor, or ask for another provider"
        )
    return session
