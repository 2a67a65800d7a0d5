"""When frames may be sent. gRPC's flow control does not hold a stream back: a client that stops reading for a while
finds minutes of motion that nobody can steer any more.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_LEAD_S = 1.0


@dataclass(frozen=True)
class Pacing:
    """How fast frames are sent."""

    max_lead_s: float | None
    """How far frames may be ahead of the clock; None sends them as fast as they are made."""


class Pacer:
    """Holds the chunks of one stream back until they are due.

    The clock begins with the first chunk and never stops, so the lead over it is bounded whatever the client does. A
    client that pauses cancels, and goes on from its codes.
    """

    def __init__(self, pacing: Pacing, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_lead_s, self._clock = pacing.max_lead_s, clock
        self._began_s: float | None = None

    async def wait(self, first_frame_s: float) -> None:
        """Wait until the chunk that begins at `first_frame_s` of the stream may be sent.

        Then frames are at most `max_lead_s` and this chunk ahead.
        """
        if self._max_lead_s is None:
            return
        if self._began_s is None:
            self._began_s = self._clock()
        due_s = self._began_s + first_frame_s - self._max_lead_s
        while (delay_s := due_s - self._clock()) > 0:  # A sleep may end a little early.
            await asyncio.sleep(delay_s)
