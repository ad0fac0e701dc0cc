"""What `vllm bench serve --save-result --save-detailed` wrote, as a session, so that the page explains a run that was made without us.

Such a run asked about other prompts and kept no labels: its answers are not judged. Fields are those of vLLM 0.24,
`vllm/benchmarks/serve.py`: lists with one entry for each request, times in seconds, `start_times` on a clock of their own.
"""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

from build.bench.endpoints import Answer
from build.bench.measure import Measured, Offer
from build.bench.session import Session
from build.errors import PipelineError
from pika_tagger._load import Load

_MARK = b'"endpoint_type"'


def is_one(path: Path) -> bool:
    """Whether a file looks like a result of `vllm bench serve`; False if it cannot be read."""
    try:
        return _MARK in path.read_bytes()
    except OSError:
        return False


def read(path: Path) -> Session:
    """Return the run in a file of `vllm bench serve`.

    Raises:
        PipelineError: it has no times of single requests, or is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = ("start_times", "ttfts", "itls", "output_lens", "errors")
        if missing := [name for name in names if name not in content]:
            raise PipelineError(f"{path} has no {', '.join(missing)}: run `vllm bench serve` with --save-result --save-detailed")
        answers = tuple(_answer(number, *each) for number, each in enumerate(zip(*(content[name] for name in names), strict=True), 1))
        if not answers:
            raise ValueError("no request in it")
        offer = _offer(content, len(answers))
        run = Measured(offer.name, Load(answers, float(content["duration"])), {}, offer)
        about = {name: content[name] for name in ("model_id", "backend", "request_rate", "max_concurrency", "date")}
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise PipelineError(f"{path} is no whole result of `vllm bench serve` ({type(error).__name__}: {error}): save it anew") from None
    return Session({"name": f"vllm bench serve, {about['model_id']}", **about}, path.name, "", {}, (run,))


def _answer(number: int, start_s: float, ttft_s: float, itl_s: list[float], tokens: int, error: str) -> Answer:
    if error:
        return Answer(0.0, "failed", number, start_s, judged=False)
    pieces_ms = tuple(piece_s * 1000 for piece_s in accumulate([ttft_s, *itl_s]))
    return Answer(pieces_ms[-1], None, number, start_s, pieces_ms, tokens, judged=False)


def _offer(content: dict[str, Any], requests: int) -> Offer:
    if content["max_concurrency"]:
        return Offer(requests, callers=int(content["max_concurrency"]))
    return Offer(requests, rate_hz=float(content["request_rate"]))
