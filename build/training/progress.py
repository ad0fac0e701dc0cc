"""How far a training is: a bar on a terminal, now and then a plain line elsewhere."""

import resource
import sys
import time
from types import TracebackType

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

LINE_EVERY_S = 30.0


class Progress:
    """A context manager that is told of every step."""

    def __init__(self, done: int, steps: int) -> None:
        """Begin at step `done` of `steps`."""
        self._done, self._steps = done, steps
        self._tokens, self._seconds = 0, 0.0
        self._last_line_s = time.monotonic()
        self._bar = tqdm(total=steps, initial=done, unit="step", file=sys.stdout, disable=not sys.stdout.isatty(), dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    @property
    def tokens_per_s(self) -> float:
        """Mean speed of the steps so far, the making of their data included."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def advance(self, tokens: int, seconds: float, losses: dict[str, float]) -> None:
        """One step is done."""
        self._done += 1
        self._tokens += tokens
        self._seconds += seconds
        figures = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        figures += f", {self.tokens_per_s:.0f} tokens/s, {peak_memory_bytes() / 1e9:.1f} GB at most"
        self._bar.set_postfix_str(figures, refresh=False)
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._last_line_s >= LINE_EVERY_S:
            self.say(f"step {self._done} of {self._steps}: {figures}")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
        self._last_line_s = time.monotonic()


def peak_memory_bytes() -> int:
    """The most memory that was in use at once: on the GPU if there is one, else by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
