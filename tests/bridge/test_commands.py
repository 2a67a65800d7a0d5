import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from PIL import Image

from bridge.__main__ import main
from bridge.doctor import examine
from python_core.contract.bundle import BundleError, Manifest, open_bundle
from python_core.contract.motion import read_motion

PROMPT = "a person walks"
FREE_PORTS = ("--port", "0", "--web-port", "0")

Write = Callable[[Sequence[int]], Path]
TextIds = Callable[[str], list[int]]


class Bridge(Protocol):
    """The running server of the fixtures."""

    grpc_address: str


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with exit code 2 and one line on standard error."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", captured.err), captured.err
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture
def copied_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copied"))


def generate(tiny_bridge: Bridge, *outs: Path, seed: int = 1) -> None:
    arguments = [f"--out={out}" for out in outs]
    address = ("--address", tiny_bridge.grpc_address)
    assert main(["generate", PROMPT, *address, f"--seed={seed}", "--reasoning=off", *arguments]) == 0


def test_generate_writes_every_file_that_is_asked_for(
    tiny_bridge: Bridge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    outs = [tmp_path / f"clip{extension}" for extension in (".bvh", ".npz", ".gif", ".png")]
    generate(tiny_bridge, *outs)
    motion = read_motion(outs[1])
    assert f"Frames: {motion.num_frames}\n" in outs[0].read_text()
    with Image.open(outs[2]) as image:
        assert image.n_frames == motion.num_frames  # pyright: ignore[reportAttributeAccessIssue]
    assert outs[3].stat().st_size > 1000
    assert f"{motion.num_frames} frames" in capsys.readouterr().out


def test_generate_with_the_same_seed_writes_the_same_codes(tiny_bridge: Bridge, tmp_path: Path):
    for name, seed in (("a", 9), ("b", 9)):
        generate(tiny_bridge, tmp_path / f"{name}.npz", seed=seed)
    with np.load(tmp_path / "a.npz") as first, np.load(tmp_path / "b.npz") as second:
        assert first["codes"].tolist() == second["codes"].tolist()
        assert np.array_equal(first["joint_rotations"], second["joint_rotations"])


def test_generate_without_an_address_starts_a_server_of_its_own(tiny_bundle: Path, tmp_path: Path):
    out = tmp_path / "clip.npz"
    arguments = ["generate", PROMPT, "--bundle", str(tiny_bundle), "--reasoning=off", "--max-duration-s=0.4"]
    assert main([*arguments, f"--out={out}"]) == 0
    assert read_motion(out).num_frames in (4, 8)


def test_convert_turns_a_saved_motion_into_other_files(tiny_bridge: Bridge, tmp_path: Path):
    generate(tiny_bridge, tmp_path / "clip.npz", tmp_path / "direct.bvh")
    outs = ["--out", str(tmp_path / "again.bvh"), "--out", str(tmp_path / "again.png")]
    assert main(["convert", str(tmp_path / "clip.npz"), *outs]) == 0
    assert (tmp_path / "again.bvh").read_text() == (tmp_path / "direct.bvh").read_text()


def test_demo_streams_three_sentences_and_writes_nine_files(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = scripted_bundle(manifest.tokens.reply_ids(text_ids("1. walk forward, 0.4 s"), [2] * 9))
    assert main(["demo", "--bundle", str(folder), "--out", str(tmp_path / "new" / "demo")]) == 0
    names = {path.name for path in (tmp_path / "new" / "demo").iterdir()}
    stems = ("walk_and_turn", "sneak", "squat")
    assert names == {f"{stem}.{extension}" for stem in stems for extension in ("bvh", "npz", "gif")}
    told = capsys.readouterr().out
    for expected in ("a person walks forward and then turns around", "1. walk forward, 0.4 s", "8 frames, 0.4 s"):
        assert expected in told


def test_serve_prints_its_addresses_and_ends_on_sigterm_with_exit_code_0(tiny_bundle: Path):
    command = [sys.executable, "-m", "bridge", "serve", str(tiny_bundle), *FREE_PORTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert re.search(r"gRPC 127\.0\.0\.1:\d+, gRPC-Web http://127\.0\.0\.1:\d+$", line), line + log
    assert process.returncode == 0
    assert "Traceback" not in log


@pytest.mark.parametrize("option", ["--port", "--web-port"])
def test_a_port_in_use_is_an_error_with_its_number_and_the_remedy(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], option: str
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = error_of(capsys, "serve", tiny_bundle, *FREE_PORTS, option, port)
    assert f"port {port} on 127.0.0.1 is in use" in told
    assert f"choose another with {option} (0 picks a free one)" in told


def test_a_second_server_on_the_port_of_a_running_one_is_refused(
    tiny_bridge: Bridge, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
):
    port = tiny_bridge.grpc_address.split(":")[1]
    assert f"port {port}" in error_of(capsys, "serve", tiny_bundle, *FREE_PORTS, "--port", port)


def test_a_missing_bundle_is_an_error_that_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    told = error_of(capsys, "serve", tmp_path / "nowhere", *FREE_PORTS)
    assert "nowhere: no bundle there" in told
    assert "python -m export CHECKPOINT BUNDLE" in told


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "no manifest.json" in error_of(capsys, "generate", PROMPT, "--bundle", tmp_path, "--out", tmp_path / "a.bvh")


@pytest.mark.parametrize("file", ["language_model.onnx", "motion_decoder.onnx", "tokenizer.json", "MODEL_CARD.md"])
def test_one_changed_byte_in_any_file_is_an_error_that_names_it(
    copied_bundle: Path, capsys: pytest.CaptureFixture[str], file: str
):
    data = bytearray((copied_bundle / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copied_bundle / file).write_bytes(data)
    told = error_of(capsys, "serve", copied_bundle, *FREE_PORTS)
    assert f"{file}: SHA-256 is" in told
    assert "changed or damaged" in told


def test_one_changed_byte_anywhere_in_the_manifest_is_an_error(copied_bundle: Path):
    path = copied_bundle / "manifest.json"
    original = path.read_bytes()
    for position in range(0, len(original), 7):
        data = bytearray(original)
        data[position] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            open_bundle(copied_bundle)


def test_square_brackets_in_a_prompt_are_text(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--bundle", str(tiny_bundle), "--reasoning", "off", "--out", str(tmp_path / "a.npz")]
    assert main(["generate", "walk [/b] [red]fast[/red]", *arguments]) == 0
    assert "walk [/b] [red]fast[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-duration-s", "inf"), ("--max-duration-s", "nan"), ("--threads", "-1"), ("--grace-s", "nan")],
)
def test_a_limit_that_is_none_is_an_error_that_names_it(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
):
    assert f"{option} must be" in error_of(capsys, "serve", tiny_bundle, *FREE_PORTS, option, value)


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "folder.bvh").mkdir()
    told = error_of(capsys, "generate", PROMPT, "--bundle", tmp_path, "--out", tmp_path / "folder.bvh")
    assert "folder.bvh: cannot be written" in told


def test_a_missing_file_is_an_error_that_names_it(copied_bundle: Path, capsys: pytest.CaptureFixture[str]):
    (copied_bundle / "motion_decoder.onnx").unlink()
    assert "motion_decoder.onnx: missing" in error_of(capsys, "serve", copied_bundle, *FREE_PORTS)


def test_an_unknown_provider_is_an_error_with_the_known_ones(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]):
    told = error_of(capsys, "serve", tiny_bundle, *FREE_PORTS, "--provider", "gpu")
    assert "unknown provider 'gpu'; known are auto, cpu, cuda, tensorrt" in told


@pytest.mark.parametrize(("prompt", "told"), [("", "got nothing"), ("a" * 2000, "at most 1000 code points, got 2000")])
def test_a_bad_prompt_is_an_error_and_writes_nothing(
    tiny_bridge: Bridge, tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt: str, told: str
):
    out = tmp_path / "a.bvh"
    assert told in error_of(capsys, "generate", prompt, "--address", tiny_bridge.grpc_address, "--out", out)
    assert not out.exists()


def test_a_malformed_reply_is_an_error_and_writes_nothing(
    scripted_bundle: Write, manifest: Manifest, text_ids: TextIds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = scripted_bundle(manifest.tokens.reply_ids(text_ids("fly away"), [2] * 9))
    out = tmp_path / "a.bvh"
    told = error_of(capsys, "generate", PROMPT, "--bundle", folder, "--out", out)
    assert re.search("ABORTED: the model's reply is malformed .*'fly away'.*try another seed", told)
    assert not out.exists()


def test_an_unknown_extension_is_refused_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]):
    told = error_of(capsys, "generate", PROMPT, "--bundle", "nowhere", "--out", "clip.fbx")
    assert "cannot write .fbx; known are .bvh, .npz, .gif, .webp, .png" in told


def test_a_bundle_for_a_bridge_that_runs_already_is_refused(capsys: pytest.CaptureFixture[str]):
    told = error_of(capsys, "generate", PROMPT, "--address", "127.0.0.1:1", "--bundle", "b", "--out", "a.bvh")
    assert "--bundle and --provider are for one of your own" in told


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int):
    assert f"got {seed}" in error_of(capsys, "generate", PROMPT, "--seed", seed, "--out", tmp_path / "a.bvh")
    assert f"got {seed}" in error_of(capsys, "demo", "--seed", seed, "--out", tmp_path)


def test_ports_that_are_the_same_are_refused(capsys: pytest.CaptureFixture[str]):
    told = error_of(capsys, "serve", "--port", 6000, "--web-port", 6001, "--metrics-port", 6000)
    assert "--port and --metrics-port must differ, both are 6000" in told


def test_convert_of_something_else_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.npz").write_bytes(b"no motion")
    assert "a.npz" in error_of(capsys, "convert", tmp_path / "a.npz", "--out", tmp_path / "a.bvh")


def test_help_and_a_mistyped_command_load_nothing_heavy():
    look = (
        "import sys; from bridge.__main__ import main\n"
        "try: main(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'numpy', 'onnxruntime', 'grpc', 'tokenizers', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_doctor_finds_a_sound_bridge_sound(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", str(tiny_bundle), *FREE_PORTS]) == 0
    told = capsys.readouterr().out
    assert "provider cpu: loads" in told
    assert "files verified, opens and runs" in told
    assert "FAIL" not in told


def test_doctor_goes_on_when_everything_is_broken(copied_bundle: Path, capsys: pytest.CaptureFixture[str]):
    (copied_bundle / "tokenizer.json").write_text("{}")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["doctor", str(copied_bundle), "--provider", "gpu", "--port", port, "--web-port", "0"]) == 1
    told = capsys.readouterr().out
    failures = [line for line in told.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1] for line in failures] == ["provider", "bundle:", "port"]
    assert "unknown provider 'gpu'" in failures[0]
    assert "tokenizer.json: SHA-256" in failures[1]
    assert f"port {port} on 127.0.0.1 is in use" in failures[2]


def test_doctor_without_a_bundle_says_how_to_get_one(tmp_path: Path):
    findings = {finding.name: finding for finding in examine(tmp_path / "nowhere", "cpu", {})}
    assert not findings["bundle"].ok
    assert "python -m export" in findings["bundle"].text
    assert findings["provider cpu"].ok


def test_doctor_refuses_what_serve_refuses(tiny_bundle: Path):
    findings = {finding.name: finding for finding in examine(tiny_bundle, "cuda", {})}
    assert not findings["bundle"].ok
    assert "provider cuda: this bundle was exported for cpu and runs on cpu" in findings["bundle"].text


def test_doctor_names_the_package_of_the_metrics_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    findings = {finding.name: finding for finding in examine(tmp_path / "nowhere", "cpu", {})}
    assert not findings["prometheus-client"].ok
    assert "pip install '.[bridge]'" in findings["prometheus-client"].text


@pytest.mark.parametrize("after_s", [0.3, 0.5, 0.8, 1.2])
def test_ctrl_c_ends_generate_whenever_it_comes(tiny_bundle: Path, tmp_path: Path, after_s: float):
    command = [sys.executable, "-m", "bridge", "generate", PROMPT, "--bundle", tiny_bundle, "--out", tmp_path / "a.npz"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
