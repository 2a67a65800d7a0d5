"""Stage `train-vqvae`: features -> codes.

Losses: smooth L1 on features; the same on joint positions by forward kinematics of the solved pose, on their
velocities, and on the speed of feet that stand; commitment.
"""

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from python_core.checkpoint import forget_after, load_training, save_training, save_vqvae, start_run
from python_core.clips.prepared import PreparedClip, PreparedClips, read_prepared
from python_core.contract.motion import CONTACT_THRESHOLD, write_motion
from python_core.contract.quality import measure_quality
from python_core.contract.skeleton import BODY_22
from python_core.features import feature_slices, features_to_joints, features_to_motion, origin
from python_core.motion_decoder import MotionDecoder
from python_core.pose_solver import PoseSolver
from python_core.rotations import forward_kinematics
from python_core.vqvae import FRAMES_PER_CODE, Vqvae, VqvaeShape

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
ROOT_WEIGHT = 5.0
"""Weight of the root's 4 features and of the contacts in the loss on features, where they are few among 263."""


@dataclass(frozen=True, kw_only=True)
class TrainVqvaeConfig:
    """Learn codes from features."""

    prepared: Path = Path("runs/prepared")
    """Folder that `prepare` wrote."""

    out: Path = Path("runs/vqvae")
    """Folder of the checkpoint; a run that finds one there goes on from it."""

    shape: VqvaeShape = field(default_factory=VqvaeShape)
    """Size of the model."""

    steps: int = 100_000
    """Optimizer steps."""

    batch: int = 256
    """Windows in a step."""

    window_frames: int = 64
    """Length of a window, a multiple of 4; shorter clips are padded, and the padding is not counted."""

    learning_rate: float = 2e-4
    """Peak of the learning rate, after a linear warm-up; it falls to a twentieth by a cosine."""

    warm_up_steps: int = 1_000
    """Steps until the learning rate is at its peak."""

    commitment: float = 0.02
    """Weight of the commitment loss; 0 lets encoder outputs drift from the codes."""

    position: float = 0.1
    """Weight of the loss on joint positions, in units of 10 cm."""

    velocity: float = 0.05
    """Weight of the loss on joint velocities, in units of 1 cm a frame."""

    foot: float = 0.02
    """Weight of the loss on the velocity of feet in contact, in units of 1 cm a frame."""

    kinematic_windows: int = 32
    """Windows of a step on which the losses on joints are computed; they cost about as much as the network."""

    bf16: bool = True
    """Run the convolutions in bfloat16."""

    save_every: int = 1_000
    """Steps between checkpoints."""

    seed: int = 1
    """Of the weights, the windows and the codebook."""


PRESETS = {
    "base": TrainVqvaeConfig(steps=300_000),
    "small": TrainVqvaeConfig(
        shape=VqvaeShape(width=512, code_width=256), steps=30_000, batch=64, window_frames=128, warm_up_steps=500
    ),
    "nano": TrainVqvaeConfig(
        shape=VqvaeShape(width=256, code_width=128),
        steps=4_500,
        batch=32,
        window_frames=80,
        warm_up_steps=200,
        learning_rate=4e-4,
        kinematic_windows=16,
    ),
    "tiny": TrainVqvaeConfig(
        shape=VqvaeShape(width=32, code_width=16, num_codes=32),
        steps=30,
        batch=8,
        window_frames=32,
        warm_up_steps=5,
        learning_rate=2e-3,
        bf16=False,
        save_every=10,
    ),
}


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, unweighted."""

    features: Tensor
    position: Tensor
    velocity: Tensor
    foot: Tensor
    commitment: Tensor


class Reconstruction:
    """What is compared between source and decoded features: joints on our skeleton, in the world."""

    def __init__(self, prepared: PreparedClips, device: torch.device = CPU) -> None:
        statistics = prepared.normalizer
        self.mean, self.std = (torch.from_numpy(value).to(device) for value in (statistics.mean, statistics.std))
        self.solver = PoseSolver().float().to(device)
        slices = feature_slices(BODY_22)
        self.contacts = slices["foot_contacts"]
        self.weights = torch.ones(self.contacts.stop, device=device)
        for part in ("root_yaw_velocity", "root_velocity", "root_height", "foot_contacts"):
            self.weights[slices[part]] = ROOT_WEIGHT
        self.weights /= self.weights.mean()

    def joints(self, normalized: Tensor) -> Tensor:
        """Joint positions of normalized features that begin at the origin, [B, F, D] -> [B, F, J, 3]."""
        features = normalized * self.std + self.mean
        joints, _ = features_to_joints(features, origin(len(features), features))
        root, rotations = self.solver(joints)
        return forward_kinematics(root, rotations, self.solver.offsets, BODY_22.parents)

    def losses(self, target: Tensor, decoded: Tensor, mask: Tensor, commitment: Tensor, kinematic: int) -> Losses:
        """Compare windows [B, F, D], the first `kinematic` of them by their joints too; `mask` [B, F] is 1 where there
        is a frame.
        """
        features = _masked((_smooth_l1(decoded - target) * self.weights).mean(-1), mask)
        target, decoded, mask = target[:kinematic], decoded[:kinematic], mask[:kinematic]
        with torch.no_grad():
            wanted = self.joints(target)
            contacts = (target * self.std + self.mean)[..., self.contacts] > CONTACT_THRESHOLD
        got = self.joints(decoded)
        both = mask[:, 1:] * mask[:, :-1]
        steps = (got[:, 1:] - got[:, :-1]) - (wanted[:, 1:] - wanted[:, :-1])
        foot_steps = got[:, 1:, BODY_22.foot_joints] - got[:, :-1, BODY_22.foot_joints]
        standing = contacts[:, :-1] * both[..., None]
        # Relative to the root, so that drift of the root does not hide the pose.
        pose = (got - got[:, :, :1] * got.new_tensor([1.0, 0.0, 1.0])) - (
            wanted - wanted[:, :, :1] * got.new_tensor([1.0, 0.0, 1.0])
        )
        return Losses(
            features=features,
            position=_masked(_smooth_l1(pose * 10).mean((-1, -2)), mask),
            velocity=_masked(_smooth_l1(steps * 100).mean((-1, -2)), both),
            foot=_masked(_smooth_l1(foot_steps * 100).mean(-1), standing),
            commitment=commitment,
        )


def run(config: TrainVqvaeConfig) -> None:
    """Train, save, and measure on the val split.

    Raises:
        ValueError: The prepared clips are missing or of another format.
    """
    torch.manual_seed(config.seed)
    prepared = read_prepared(config.prepared)
    start_run(config.out, config, [config.prepared / name for name in ("clips.jsonl", "statistics.npz")])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Vqvae(config.shape).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(config, step))
    windows = Windows(prepared, config.window_frames, device)
    reconstruction = Reconstruction(prepared, device)
    step = 0
    if (state := load_training(config.out / "training.pt")) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step = state["step"]
        logger.info("going on from step %d", step)
    else:
        with torch.no_grad():
            target, mask = windows.draw(config.batch)
            model.codebook.start(model.encoder(target)[_code_mask(mask)])

    forget_after(config.out / "metrics.jsonl", step)
    with (config.out / "metrics.jsonl").open("a") as metrics, _progress() as progress:
        task = progress.add_task("train-vqvae", total=config.steps, completed=step)
        started = time.monotonic()
        while step < config.steps:
            losses, loss = _step(model, config, windows, reconstruction)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            progress.update(task, completed=step)
            if step % 50 == 0 or step == config.steps:
                record = {name: round(value.item(), 5) for name, value in vars(losses).items()}
                record |= {"step": step, "loss": round(loss.item(), 5), "time_s": round(time.monotonic() - started, 1)}
                record["codes_in_use"] = int((model.codebook.counts > 0.5).sum())
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()
            if step % config.save_every == 0 or step == config.steps:
                save_training(
                    config.out / "training.pt",
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "step": step,
                    },
                )
                save_vqvae(config.out, model, prepared.normalizer, prepared.frame_rate_hz, config)
        splits = {clip.split for clip in prepared.clips}
        record = {"step": step} | measure(
            model.cpu().eval(), prepared, "val" if "val" in splits else "train", config.out
        )
        metrics.write(json.dumps(record) + "\n")
        logger.info("%s", record)


@torch.no_grad()
def measure(model: Vqvae, prepared: PreparedClips, split: str, out: Path) -> dict[str, float | str]:
    """Encode and decode whole clips of a split, as a stream would, and write the first ones to `out`.

    Returns:
        MPJPE with the root in place, millimetres; drift of the root at a clip's end, metres; foot skate of decoded and
        source clips, metres a second; share of codes in use.
    """
    decoder = MotionDecoder(model, prepared.normalizer)
    mpjpe, drift, skate, source_skate = [], [], [], []
    used: set[int] = set()
    (out / "reconstructions").mkdir(exist_ok=True)
    for number, clip in enumerate(prepared.split(split)):
        rows = np.array(prepared.features(clip))
        rows = rows[: len(rows) // FRAMES_PER_CODE * FRAMES_PER_CODE]
        codes = model.encode(torch.from_numpy(prepared.normalizer.normalize(rows))[None])[0].tolist()
        used.update(codes)
        decoded = decoder.motion(codes, prepared.frame_rate_hz)
        source = features_to_motion(rows, prepared.frame_rate_hz)
        got, wanted = decoded.joint_positions_m(), source.joint_positions_m()
        ground = np.array([1, 0, 1], dtype=np.float32)
        mpjpe.append(np.linalg.norm((got - got[:, :1] * ground) - (wanted - wanted[:, :1] * ground), axis=-1).mean())
        drift.append(np.linalg.norm((got[-1, 0] - wanted[-1, 0]) * ground))
        skate.append(measure_quality(decoded).foot_skate_m_s)
        source_skate.append(measure_quality(source).foot_skate_m_s)
        if number < 12:
            write_motion(out / "reconstructions" / f"{clip.clip_id}.npz", decoded, np.array(codes))
            write_motion(out / "reconstructions" / f"{clip.clip_id}.source.npz", source)
    return {
        "split": split,
        "mpjpe_mm": round(float(np.mean(mpjpe)) * 1000, 2),
        "root_drift_m": round(float(np.mean(drift)), 4),
        "foot_skate_m_s": round(float(np.mean(skate)), 4),
        "source_foot_skate_m_s": round(float(np.mean(source_skate)), 4),
        "codes_used": len(used) / model.shape.num_codes,
    }


class Windows:
    """Draws windows of the train split, each clip in proportion to its length."""

    def __init__(self, prepared: PreparedClips, frames: int, device: torch.device = CPU) -> None:
        self.prepared, self.frames, self.device = prepared, frames, device
        self.clips: list[PreparedClip] = prepared.split("train")
        self.weights = torch.tensor([float(clip.num_rows) for clip in self.clips])
        self.mean, self.std = prepared.normalizer.mean, prepared.normalizer.std

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Normalized windows [B, F, D], zero where a clip has ended, and where it has not, [B, F]."""
        features = torch.zeros(batch, self.frames, len(self.mean))
        mask = torch.zeros(batch, self.frames)
        for row, pick in enumerate(torch.multinomial(self.weights, batch, replacement=True).tolist()):
            clip = self.clips[pick]
            length = min(clip.num_rows // FRAMES_PER_CODE * FRAMES_PER_CODE, self.frames)
            first = int(torch.randint(clip.num_rows - length + 1, ()))
            rows = np.array(self.prepared.features(clip)[first : first + length])
            features[row, :length] = torch.from_numpy((rows - self.mean) / self.std)
            mask[row, :length] = 1
        return features.to(self.device), mask.to(self.device)


def _step(
    model: Vqvae, config: TrainVqvaeConfig, windows: Windows, reconstruction: Reconstruction
) -> tuple[Losses, Tensor]:
    target, mask = windows.draw(config.batch)
    with torch.autocast(target.device.type, torch.bfloat16, enabled=config.bf16):
        encoded = model.encoder(target)
    encoded = encoded.float()
    with torch.no_grad():
        codes = model.codebook.nearest(encoded)
        quantized = model.codebook.vectors[codes]
    kept = _code_mask(mask)
    commitment = functional.mse_loss(encoded[kept], quantized[kept])
    with torch.autocast(target.device.type, torch.bfloat16, enabled=config.bf16):
        decoded, _ = model.decoder(encoded + (quantized - encoded).detach(), model.zero_state(len(target)))
    model.codebook.update(encoded[kept].detach(), codes[kept])
    losses = reconstruction.losses(target, decoded.float(), mask, commitment, config.kinematic_windows)
    loss = (
        losses.features
        + config.position * losses.position
        + config.velocity * losses.velocity
        + config.foot * losses.foot
        + config.commitment * losses.commitment
    )
    return losses, loss


def _code_mask(mask: Tensor) -> Tensor:
    return mask[:, ::FRAMES_PER_CODE] > 0


def _smooth_l1(x: Tensor) -> Tensor:
    return functional.smooth_l1_loss(x, torch.zeros_like(x), reduction="none")


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _learning_rate(config: TrainVqvaeConfig, step: int) -> float:
    if step < config.warm_up_steps:
        return (step + 1) / config.warm_up_steps
    done = (step - config.warm_up_steps) / max(config.steps - config.warm_up_steps, 1)
    return 0.05 + 0.95 * (1 + float(np.cos(np.pi * done))) / 2


def _progress() -> Progress:
    return Progress(*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn())
