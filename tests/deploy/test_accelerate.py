"""The configs in `deploy/accelerate`, as `accelerate launch` reads them."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

FOLDER = Path(__file__).parents[2] / "deploy" / "accelerate"
TYPES = {"cpu": "MULTI_GPU", "ddp": "MULTI_GPU", "deepspeed": "DEEPSPEED", "fsdp": "FSDP"}


def test_every_config_is_known_here():
    assert {path.stem for path in FOLDER.iterdir()} == TYPES.keys()


@pytest.mark.parametrize("name", TYPES)
def test_accelerate_takes_the_config(name: str):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    command = ["--config_file", str(FOLDER / f"{name}.yaml"), "-m", "python_core", "train-sft", "base"]
    asked, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    kinds = {"MULTI_GPU": asked.multi_gpu, "DEEPSPEED": asked.use_deepspeed, "FSDP": asked.use_fsdp}
    assert [kind for kind, chosen in kinds.items() if chosen] == [TYPES[name]]
    assert asked.num_processes == 2
    assert asked.mixed_precision == ("no" if name == "cpu" else "bf16")
    if name == "deepspeed":
        assert asked.zero_stage == 2


def test_fsdp_gets_what_the_config_says(monkeypatch: pytest.MonkeyPatch):
    command = ["--config_file", str(FOLDER / "fsdp.yaml"), "-m", "python_core", "train-sft", "base"]
    asked, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    for variable, value in prepare_multi_gpu_env(asked).items():
        if variable.startswith("FSDP_"):
            monkeypatch.setenv(variable, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert plugin.state_dict_type is StateDictType.FULL_STATE_DICT
