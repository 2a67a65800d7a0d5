"""Replies on disk, a JSON object a line, so that a killed evaluation goes on where it was."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object
from rich.progress import track
from tokenizers import Tokenizer

from python_core.contract.plan import reasoning_text
from python_core.contract.vocabulary import TokenLayout
from python_core.evaluation.generation import Prompt, Reply, Sampling, generate, read_reply
from python_core.motion_model import SpeaksMotion
from python_core.processes import open_processes
from python_core.whole_file import write_text


@dataclass(frozen=True, eq=False, kw_only=True)
class Speaker:
    """A language model, ready to be asked."""

    model: SpeaksMotion
    tokenizer: Tokenizer
    layout: TokenLayout
    sampling: Sampling
    batch: int
    """Prompts at a time; together with the seed it decides what is drawn."""
    code_s: float
    """Seconds of a code."""

    def reply(self, path: Path, prompts: Sequence[Prompt], seed: Sequence[int]) -> list[Reply]:
        """Replies to prompts; those that the file holds are not drawn again. Processes draw a batch each at a time.

        Args:
            path: Where replies are kept, batch by batch.
            prompts: In order.
            seed: Of this file; each batch has its own.

        Raises:
            ValueError: The file holds replies to other prompts, or the model has no room for these.
        """
        processes = open_processes()
        with processes.main_process_first():
            kept = self._read(path, prompts)
            if processes.is_main_process:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, "".join(_line(prompt, reply) for prompt, reply in zip(prompts, kept, strict=False)))
        starts = range(len(kept), len(prompts), self.batch * processes.num_processes)
        for first in track(starts, f"replies {path.stem}", disable=not starts or not processes.is_main_process):
            own = self._draw(prompts, first + self.batch * processes.process_index, seed)
            # In the order of the processes, which is that of the batches.
            drawn = gather_object([reply.token_ids for reply in own])
            asked = prompts[first : first + len(drawn)]
            replies = [
                read_reply(token_ids, self.layout, len(prompt.history))
                for token_ids, prompt in zip(drawn, asked, strict=True)
            ]
            if processes.is_main_process:
                with path.open("a", encoding="utf-8") as file:
                    file.write("".join(_line(prompt, reply) for prompt, reply in zip(asked, replies, strict=True)))
            kept += replies
        return kept

    def reasoning(self, reply: Reply) -> str | None:
        """The text between the think markers; None without."""
        if reply.parsed is None or reply.parsed.reasoning_ids is None:
            return None
        return reasoning_text(self.tokenizer, reply.parsed.reasoning_ids)

    def _draw(self, prompts: Sequence[Prompt], first: int, seed: Sequence[int]) -> list[Reply]:
        """The batch that begins at a place; none after the last prompt."""
        asked = prompts[first : first + self.batch]
        if not asked:
            return []
        of_batch = int(np.random.SeedSequence([*seed, first // self.batch]).generate_state(1)[0])
        return generate(
            self.model, self.tokenizer, self.layout, asked, self.sampling, of_batch, served_code_s=self.code_s
        )

    def _read(self, path: Path, prompts: Sequence[Prompt]) -> list[Reply]:
        """Replies of whole batches; a batch that was cut off is drawn again."""
        if not path.is_file():
            return []
        # The last line is empty, or was cut off.
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        num_kept = len(records) if len(records) == len(prompts) else len(records) // self.batch * self.batch
        replies = []
        for number, (record, prompt) in enumerate(zip(records[:num_kept], prompts, strict=False)):
            if (record["prompt"], tuple(record["history"])) != (prompt.text, prompt.history):
                raise ValueError(
                    f"{path}: reply {number} is to {record['prompt']!r}, expected one to {prompt.text!r}; remove the "
                    "file"
                )
            replies.append(read_reply(record["token_ids"], self.layout, len(prompt.history)))
        return replies


def _line(prompt: Prompt, reply: Reply) -> str:
    record = {"prompt": prompt.text, "history": prompt.history, "token_ids": reply.token_ids}
    return json.dumps(record, ensure_ascii=False) + "\n"
