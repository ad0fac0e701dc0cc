"""Endpoints as people write them, opened; and two of them asked in turn."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from build import settings
from build.bench.chat_endpoint import ChatEndpoint
from build.bench.endpoints import Endpoint
from build.bench.measure import Offer, in_turn, measure
from build.bench.session import Session
from build.bench.tagger_endpoint import TaggerEndpoint
from build.errors import PipelineError
from one_pass import STRATEGIES, Task
from pika_tagger._labelled import Labelled

_GRPC = "grpc://"


@dataclass(frozen=True)
class How:
    """How endpoints are asked.

    Attributes:
        task: Name of the task file that a chat request is made from.
        model: As an OpenAI-compatible server calls it; None takes its only one.
        system: File with a system prompt for it; None takes the one made from the task file.
        timeout_s: For one request.
        metadata: What is sent to a tagger with each call; the server's key, so that it tells its statistics.
    """

    task: str = "pika_mood"
    model: str | None = None
    system: Path | None = None
    timeout_s: float = 600.0
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)


def opened(name: str, how: How) -> Endpoint:
    """Return an endpoint that answers.

    Args:
        name: grpc://HOST:PORT, grpc://HOST:PORT/STRATEGY, or http(s)://HOST:PORT/v1.
        how: What else there is to know.

    Raises:
        PipelineError: It is no endpoint, or does not answer.
        TaggerError: The tagger does not answer.
    """
    if name.startswith(_GRPC):
        url, _, strategy = name.removeprefix(_GRPC).partition("/")
        if strategy not in ("", *STRATEGIES):
            raise PipelineError(f"{name} names the strategy {strategy!r}: use {', '.join(STRATEGIES)}, or none")
        return TaggerEndpoint(url, strategy or None, how.timeout_s, how.metadata)
    if name.startswith(("http://", "https://")):
        task = Task.load(settings.TASKS / f"{how.task}.toml")
        system = None if how.system is None else _text(how.system)
        return ChatEndpoint(name, task, how.model, system, how.timeout_s)
    raise PipelineError(f"{name} is no endpoint: it begins with grpc://, http:// or https://")


def sessions_in_turn(names: Sequence[str], labelled: Labelled, how: How, repeats: int, offers: Sequence[Offer] = ()) -> list[Session]:
    """Ask endpoints in turn, and then each of them by itself as `offers` say.

    Raises:
        PipelineError: As `opened`.
        TaggerError: Likewise.
        BadFileError: The file uses labels that one of them does not know.
    """
    with ExitStack() as stack:
        endpoints = [stack.enter_context(closing(opened(name, how))) for name in names]
        for endpoint in endpoints:
            endpoint.check(labelled)
        runs = in_turn(endpoints, labelled, repeats)
        return [
            Session.of(endpoint, labelled, (run, *(measure(endpoint, labelled, offers) if offers else ())))
            for endpoint, run in zip(endpoints, runs, strict=True)
        ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"--system {path} cannot be read ({error}): give a text file in UTF-8") from None
