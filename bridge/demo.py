"""Three sentences through a real server: plan, frames and files of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.client import MotionClient, Received
from bridge.server import ServeConfig, running
from bridge.stubs import motion_pb2
from bridge.writers import write_clip

PROMPTS = {
    "walk_and_turn": "a person walks forward and then turns around",
    "sneak": "someone sneaks forward slowly",
    "squat": "a person does a squat",
}
"""Name of the files -> prompt."""
EXTENSIONS = (".bvh", ".npz", ".gif")


@dataclass(frozen=True, eq=False)
class Scene:
    """One sentence that was acted out."""

    received: Received
    files: tuple[Path, ...]


def play(config: ServeConfig, folder: Path, seed: int) -> Iterator[Scene]:
    """Start a server on a free port, stream each prompt and write its files.

    Raises:
        ValueError: The server does not start, or a call fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with running(config) as server, MotionClient(server.grpc_address) as client:
        for name, prompt in PROMPTS.items():
            received = client.generate(motion_pb2.StreamMotionRequest(prompt=prompt, seed=seed))
            files = tuple(folder / f"{name}{extension}" for extension in EXTENSIONS)
            for path in files:
                write_clip(path, received.clip)
            yield Scene(received, files)
