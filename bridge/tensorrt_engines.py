"""Engines of TensorRT: native code that was built on this machine, in a folder beside the bundle.

BUNDLE.engines/GRAPH-KEY/   engines and timings of one graph; KEY is made of what they depend on
    index.json              written by us: the key, and the SHA-256 of every other file
GRAPH-KEY.building/         what is being built; it gets its name when its index is written

Whoever can write there can run code here. So the folder belongs to the user alone, and a file that the index does not
name, or names with another SHA-256, is an error and never loaded.
"""

import contextlib
import ctypes
import dataclasses
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from python_core.contract.bundle import BundleError, ShapeProfile, sha256

INDEX = "index.json"
LIBRARY = "libnvinfer.so.10"
"""What ONNX Runtime's TensorRT provider is linked with: TensorRT 10, no other."""
INSTALL = "pip install 'tensorrt-cu13>=10.14,<11'"
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""CUdevice_attribute of the compute capability."""


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """What an engine depends on; with anything else it is built anew."""

    graph_sha256: str
    """Of the ONNX file and of the weights beside it."""
    profiles_sha256: str
    """Of the shapes that it is built for."""
    onnxruntime: str
    tensorrt: str
    gpu: str

    @property
    def name(self) -> str:
        """Of the folder."""
        fields = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()[:16]


def this_machine(graph: Path, profiles: Sequence[ShapeProfile]) -> EngineKey:
    """The key of a graph's engines on this machine.

    Raises:
        OSError: TensorRT 10 or the driver of the GPU is not there.
    """
    shapes = json.dumps([dataclasses.asdict(profile) for profile in profiles])
    return EngineKey(
        graph_sha256=_graph_sha256(graph),
        profiles_sha256=hashlib.sha256(shapes.encode()).hexdigest(),
        onnxruntime=ort.__version__,
        tensorrt=tensorrt_version(),
        gpu=gpu_name(),
    )


def _graph_sha256(graph: Path) -> str:
    """Of all files of a graph: those of large weights hold what the ONNX file names by place and size only."""
    files = [graph, *sorted(graph.parent.glob(f"{graph.stem}.*.bin"))]
    listed = json.dumps([(path.name, sha256(path)) for path in files])
    return hashlib.sha256(listed.encode()).hexdigest()


def tensorrt_version() -> str:
    """Version of the library that ONNX Runtime would load.

    Raises:
        OSError: It is not there.
    """
    number = ctypes.CDLL(LIBRARY).getInferLibVersion()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def gpu_name() -> str:
    """Name and compute capability of the first GPU.

    Raises:
        OSError: No driver, or no GPU.
    """
    cuda = ctypes.CDLL("libcuda.so.1")
    name, device = ctypes.create_string_buffer(256), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    for status in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, len(name), device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_MINOR, device),
    ):
        if status != 0:
            raise OSError(f"the CUDA driver answers with error {status}; is there a GPU?")
    return f"{name.value.decode()} {major.value}.{minor.value}"


class EngineFolder:
    """Where the engines of one graph are.

    Args:
        graph: The ONNX file, in its bundle.
        key: What its engines depend on.
    """

    def __init__(self, graph: Path, key: EngineKey) -> None:
        self.path = engines_of(graph.parent) / f"{graph.stem}-{key.name}"
        self.key = key

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out: they wait for engines that are being built, rather than refuse them."""
        import fcntl  # Where there is none, there is no TensorRT provider of ours either.

        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.path.parent / f"{self.path.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def open(self, more: bool = False) -> Path:
        """Check what was built, and say where a session finds it, or may build.

        A build that is killed leaves a folder that nobody opens, and that the next build removes.

        Args:
            more: Whether something is to be built besides what is there.

        Returns:
            Folder for `close`.

        Raises:
            BundleError: Others may write there, or it holds files that are not ours.
        """
        if self.path.exists():
            self._check()
            if not more and (self.path / INDEX).is_file():
                return self.path
        building = self.path.with_name(f"{self.path.name}.building")
        if building.exists():
            shutil.rmtree(building)
        building.mkdir(parents=True, mode=0o700)
        if self.path.exists():
            shutil.copytree(self.path, building, dirs_exist_ok=True)
        return building

    def close(self, folder: Path) -> None:
        """Write down what a session has built in a folder that `open` gave."""
        files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != INDEX}
        # Beside the folder: in it, one that a kill leaves would be a foreign file.
        temporary = self.path.with_name(f"{self.path.name}.{INDEX}")
        temporary.write_text(json.dumps({"key": dataclasses.asdict(self.key), "files": files}, indent=2) + "\n")
        temporary.replace(folder / INDEX)
        if folder != self.path:
            with tempfile.TemporaryDirectory(dir=self.path.parent) as replaced:
                if self.path.exists():
                    self.path.rename(Path(replaced) / "engines")
                folder.rename(self.path)

    def _check(self) -> None:
        found = self.path.stat()
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            raise BundleError(
                f"{self.path}: engines are native code, and others than this user may write there; "
                f"remove the folder, or chmod go-w it if all that is in it is yours"
            )
        named = self._read_index()
        for path in sorted(self.path.iterdir()):
            if path.name == INDEX:
                continue
            if path.name not in named:
                raise BundleError(f"{path}: not written by this bridge; engines are native code: remove it")
            if (actual := sha256(path)) != named[path.name]:
                raise BundleError(
                    f"{path}: SHA-256 is {actual}, {INDEX} says {named[path.name]}; engines are native code: "
                    "remove the folder, and it is built again"
                )

    def _read_index(self) -> dict[str, str]:
        path = self.path / INDEX
        if not path.is_file():
            return {}
        try:
            index = json.loads(path.read_text())
            key, files = index["key"], index["files"]
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: damaged ({error}); remove {self.path}, and it is built again") from error
        if key != dataclasses.asdict(self.key):
            raise BundleError(f"{path}: of another graph or machine; remove {self.path}, and it is built again")
        return dict(files)


def engines_of(bundle: Path) -> Path:
    """Folder of a bundle's engines."""
    bundle = bundle.resolve()
    return bundle.parent / f"{bundle.name}.engines"


def move_engines(source: Path, target: Path) -> None:
    """Take the engines of a bundle along to another place on the disk; what the place has already, it keeps."""
    engines, place = engines_of(source), engines_of(target)
    for path in sorted(engines.glob(f"*/{INDEX}")):
        moved = place / path.parent.name
        if not moved.exists():
            place.mkdir(exist_ok=True, mode=0o700)
            path.parent.rename(moved)


def options(folder: Path, profiles: Sequence[ShapeProfile], fp16: bool, context: bool) -> dict[str, str]:
    """Of the TensorRT provider.

    Args:
        folder: Of the engines.
        profiles: Of every input of the graph.
        fp16: Whether engines may compute in float16.
        context: Whether to write an ONNX file that holds nothing but the engine, to be opened instead.
    """
    found = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": "engine",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": str(int(fp16)),
    }
    for end in ("min", "opt", "max"):
        shapes = (f"{profile.input}:{'x'.join(map(str, getattr(profile, end)))}" for profile in profiles)
        found[f"trt_profile_{end}_shapes"] = ",".join(shapes)
    if context:
        found |= {
            "trt_dump_ep_context_model": "1",
            "trt_ep_context_file_path": str(folder),
            "trt_ep_context_embed_mode": "0",
            # Beside the context; it may not point out of its folder.
            "trt_engine_cache_path": ".",
        }
    return found
