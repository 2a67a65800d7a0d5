"""Looks at everything that a bridge needs and says what is wrong and what to do. Works when things are broken."""

import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NEEDED = {
    "numpy": "numpy",
    "tokenizers": "tokenizers",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "google.protobuf": "protobuf",
    "aiohttp": "aiohttp",
    "prometheus_client": "prometheus-client",
    "PIL": "pillow",
    "rich": "rich",
}
"""Module -> package that brings it."""
INSTALL = "pip install '.[bridge]'"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    text: str
    ok: bool
    needed: bool = True
    """Whether the bridge cannot run without it."""


def examine(bundle: Path, provider: str, ports: dict[str, int]) -> list[Finding]:
    """Look at versions, providers, the bundle and the ports.

    Args:
        bundle: The folder that would be served.
        provider: The provider that would be asked for.
        ports: Option -> port that would be used.
    """
    findings = [Finding("python", platform.python_version(), ok=True)]
    findings += [_examine_package(module, package) for module, package in NEEDED.items()]
    findings += _examine_onnxruntime(provider)
    findings.append(_examine_with("bundle", lambda: _verify(bundle, provider)))
    findings += [
        _examine_with(f"port {port}", lambda o=option, p=port: _try_port(o, p)) for option, port in ports.items()
    ]
    return findings


def _examine_package(module: str, package: str) -> Finding:
    try:
        importlib.import_module(module)
        return Finding(package, importlib.metadata.version(package), ok=True)
    except Exception as error:  # Whatever a broken package raises is what is to be told.
        return Finding(package, f"does not import ({error}); {INSTALL}", ok=False)


def _examine_onnxruntime(asked: str) -> list[Finding]:
    try:
        from bridge import providers, tensorrt_engines
    except ImportError as error:
        return [Finding("onnxruntime", f"does not import ({error}); {INSTALL}", ok=False)]
    packages = providers.installed_packages()
    versions = ", ".join(f"{package} {version}" for package, version in packages.items())
    conflict = providers.package_conflict()
    findings = [Finding("onnxruntime", conflict or versions or "installed without a package", ok=conflict is None)]
    needed = "cpu" if asked == providers.AUTO else asked
    for name in providers.PROVIDERS:
        reason = providers.why_missing(name)
        text = reason or "loads"
        findings.append(Finding(f"provider {name}", text, ok=reason is None, needed=name == needed))
    findings += [_examine_gpu("gpu", tensorrt_engines.gpu_name), _examine_gpu("tensorrt", _tensorrt)]
    if asked not in providers.KNOWN:
        findings.append(_examine_with(f"provider {asked}", lambda: str(providers.check_name(asked))))
    return findings


def _examine_gpu(name: str, look: Callable[[], str]) -> Finding:
    """What only a GPU needs; it is never missed."""
    try:
        return Finding(name, look(), ok=True, needed=False)
    except OSError as error:
        return Finding(name, f"none ({error})", ok=False, needed=False)


def _tensorrt() -> str:
    from bridge import tensorrt_engines

    try:
        return f"{tensorrt_engines.tensorrt_version()}, as the provider is linked with {tensorrt_engines.LIBRARY}"
    except OSError as error:
        raise OSError(f"{error}; TensorRT 10 brings it, 11 does not: {tensorrt_engines.INSTALL}") from error


def _examine_with(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, look(), ok=True)
    except Exception as error:  # Whatever is broken, the doctor goes on and says so.
        return Finding(name, str(error) or type(error).__name__, ok=False)


def _verify(folder: Path, provider: str) -> str:
    from bridge.providers import choose
    from bridge.server import check_bundle_exists
    from bridge.stream import MotionModel
    from python_core.contract.bundle import open_bundle

    check_bundle_exists(folder)
    manifest = open_bundle(folder).manifest
    chosen = choose(provider, manifest.provider)
    # Engines of TensorRT would be built first, for minutes.
    opened_on = "cpu" if chosen == "tensorrt" else chosen
    MotionModel(folder, opened_on).warm_up()
    return (
        f"{folder}: {manifest.model_id}, {len(manifest.files)} files verified, opens and runs on {opened_on}, "
        f"licence {manifest.licence}"
    )


def _try_port(option: str, port: int) -> str:
    from bridge.server import check_port

    check_port(port, option)
    return f"free ({option})"
