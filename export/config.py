"""What is asked of an export, and what of it cannot be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bridge.providers import RUNS_ON, ProviderError, why_missing
from bridge.request import MAX_TEMPERATURE

BITS = {"int8": 8, "int4": 4}

Provider = Literal["cpu", "cuda", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
DecoderPrecision = Literal["fp32", "fp16", "int8"]
CachePrecision = Literal["full", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What goes into a bundle besides the weights."""

    provider: Provider = "cpu"
    """Where the bridge will run it. For tensorrt the graph has standard operators only."""

    precision: Precision = "fp32"
    """Weights of the language model. int8 and int4 are computed with inputs in 8 bits; fp16 is computed in float16 on
    cuda, while on cpu it halves the file and is computed in float32.
    """

    cache_precision: CachePrecision | None = None
    """Keys and values that the language model keeps: `full`, as they are computed, or int8, on a cpu: a quarter of the
    memory, and faster with many streams. None is int8 where weights are int8 or int4 on a cpu.
    """

    decoder_precision: DecoderPrecision = "fp32"
    """Weights of the motion decoder; fp16 halves the file and is computed in float32. int8 is a quarter, answers a
    single stream fastest, and is refused where motions get worse.
    """

    build_engines: bool = False
    """Build the engines of TensorRT for this machine's GPU now, not at the first start."""

    ep_context: bool = False
    """With build_engines: write ONNX files that hold nothing but an engine, which open fastest."""

    prepared: Path | None = None
    """Folder that prepare wrote: captions of its train clips are asked in calibration and parity; None asks a dozen
    sentences.
    """

    judge: Path | None = None
    """Folder that train-evaluator --kind judge wrote: says whether int8 and int4 replies are as good as before. It is
    shown compositions of the val clips of `prepared`.
    """

    judge_replies: int = 256
    """Replies that the judge is shown, once before quantization and once after."""

    temperature: float = 0.8
    """Sampling temperature when a request does not say."""

    top_p: float = 0.9
    """Nucleus when a request does not say."""

    depth_temperature: float = 0.3
    """Temperature of the levels of a code after its first, times a request's own. They refine what it says: drawn
    cold, feet are steadier, and motions are as near to their texts.
    """

    reasoning_temperature: float = 0.3
    """Temperature of the reasoning, times a request's own: what is to be done is drawn colder than how it is done."""

    licence: str = "see data_notice"
    """Licence of the weights, an SPDX expression or a name."""

    card: Path | None = None
    """A model card to put into the bundle, for example the one of the bundle that is written over; None writes one that
    says what is known.
    """

    check_on: str | None = None
    """Provider on which parity is measured; None is `provider`. Where there is no GPU, cpu proves the graphs, but not
    the provider; the manifest says where it was.
    """

    parity_tokens: int = 2000
    """Tokens of replies on which torch and the session are compared; a code has one for each level."""

    calibration_tokens: int = 8000
    """Tokens of replies from which int8 and int4 learn what the layers get as inputs, and how large keys and values
    become.
    """

    @property
    def keeps_int8(self) -> bool:
        """Whether keys and values are kept in 8 bits."""
        if self.cache_precision is None:
            return self.provider == "cpu" and self.precision in BITS
        return self.cache_precision == "int8"


def check_config(config: ExportConfig) -> None:
    """Refuse what cannot be exported, before anything is read.

    Raises:
        ValueError: A name is unknown, or things do not go together.
        ProviderError: Parity would be measured on a provider that does not load.
    """
    # The command line offers these names only; this is for callers.
    names = {"provider": Provider, "precision": Precision, "decoder_precision": DecoderPrecision}
    if config.cache_precision is not None:
        names |= {"cache_precision": CachePrecision}
    for name, choices in names.items():
        if (value := getattr(config, name)) not in get_args(choices):
            raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
    # The bridge would refuse each request that leaves it to the bundle.
    for name in ("temperature", "depth_temperature", "reasoning_temperature"):
        if not 0 <= (value := getattr(config, name)) <= MAX_TEMPERATURE:
            raise ValueError(f"{name} must be 0 to {MAX_TEMPERATURE:g}, got {value:g}")
    if not 0 < config.top_p <= 1:
        raise ValueError(f"top_p must be more than 0 and at most 1, got {config.top_p:g}")
    for name in ("parity_tokens", "calibration_tokens", "judge_replies"):
        if (value := getattr(config, name)) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for name in ("precision", "decoder_precision"):
        if config.provider == "tensorrt" and (value := getattr(config, name)) in BITS:
            raise ValueError(
                f"{name} {value} is not for tensorrt, which has no MatMulNBits and would cut the graph to pieces; "
                "choose fp16, or --provider cuda"
            )
    if config.keeps_int8 and config.provider != "cpu":
        raise ValueError(f"cache_precision int8 is for --provider cpu, got {config.provider}; leave it out")
    if config.keeps_int8 and config.precision == "fp32":
        raise ValueError("cache_precision int8 is not for precision fp32, which stays exact; choose fp16, int8 or int4")
    if config.build_engines and config.provider != "tensorrt":
        raise ValueError(f"build_engines is for --provider tensorrt, got {config.provider}")
    if config.judge is not None and config.prepared is None:
        raise ValueError("judge needs prepared, whose val clips it is shown; give --prepared FOLDER")
    fitting = RUNS_ON[config.provider]
    check_on = config.check_on or config.provider
    if check_on not in fitting:
        raise ValueError(f"check_on must be one of {', '.join(fitting)} for {config.provider}, got {check_on!r}")
    if reason := why_missing(check_on):
        raise ProviderError(
            f"parity is measured on {check_on}, which does not load: {reason}; without it, --check-on cpu proves the "
            "graphs but not the provider"
        )
