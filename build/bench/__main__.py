"""The command line of the benchmark: `python -m build.bench measure`, `compare`, `report`.

This module holds arguments and exit statuses: 0 all done, 1 a request failed, 2 wrong usage or nobody answers, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from build import settings
from build.bench.arguments import parse
from build.bench.block import block, remarks
from build.bench.chat_endpoint import ChatEndpoint
from build.bench.compare import Verdict, compare
from build.bench.endpoints import Endpoint
from build.bench.measure import Offer, in_turn, measure
from build.bench.session import Session, read
from build.bench.tagger_endpoint import TaggerEndpoint
from build.bench.verdict import json_of, sentences, tables
from build.errors import PipelineError
from one_pass import STRATEGIES, Task, TaskError
from pika_tagger import TaggerError
from pika_tagger._files import write_bytes, write_json
from pika_tagger._labelled import BadFileError, Labelled, load, shortened
from pika_tagger._render import progress

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_GRPC = "grpc://"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    given = parse(arguments)
    try:
        return _COMMANDS[given.command](given)
    except BadFileError as error:
        return _complain("\n  ".join([f"{given.data} cannot be used:", *shortened(error.problems)]), USAGE)
    except (PipelineError, TaggerError, TaskError) as error:
        return _complain(str(error), USAGE)
    except OSError as error:
        return _complain(f"the results were not written: {error}", FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def opened(endpoint: str, given: argparse.Namespace) -> Endpoint:
    """Return an endpoint that answers.

    Args:
        endpoint: As people write it; the help text says how.
        given: `task`, `model`, `system` and `timeout_s`.

    Raises:
        PipelineError: It is no endpoint, or does not answer.
        TaggerError: The tagger does not answer.
    """
    if endpoint.startswith(_GRPC):
        url, _, strategy = endpoint.removeprefix(_GRPC).partition("/")
        if strategy not in ("", *STRATEGIES):
            raise PipelineError(f"{endpoint} names the strategy {strategy!r}: use {', '.join(STRATEGIES)}, or none")
        return TaggerEndpoint(url, strategy or None, given.timeout_s)
    if endpoint.startswith(("http://", "https://")):
        task = Task.load(settings.TASKS / f"{given.task}.toml")
        system = None if given.system is None else _text(given.system)
        return ChatEndpoint(endpoint, task, given.model, system, given.timeout_s)
    raise PipelineError(f"{endpoint} is no endpoint: it begins with grpc://, http:// or https://")


def _measure(given: argparse.Namespace) -> int:
    labelled = load(given.data)
    offers = [Offer(given.requests, callers=callers) for callers in given.concurrency]
    offers += [Offer(given.requests, rate_hz=rate_hz, seed=given.seed) for rate_hz in given.rate]
    offers = offers or [Offer(given.requests, callers=1)]
    with closing(opened(given.endpoint, given)) as endpoint:
        endpoint.check(labelled)
        runs = tuple(
            progress(measure(endpoint, labelled, offers or [Offer(given.requests, callers=1)]), len(offers) or 1, sys.stderr, "run")
        )
        session = Session.of(endpoint, labelled, runs)
    _show(session)
    if given.json is not None:
        write_json(given.json, session.json())
    _write_page(given.html, [session], None)
    return FAILED if any(run.failures for run in session.runs) else OK


def _compare(given: argparse.Namespace) -> int:
    names = [given.a, given.b]
    if all("://" in name for name in names):
        sessions = _asked_in_turn(names, load(given.data), given)
    elif any("://" in name for name in names):
        raise PipelineError("one of the two is a url and the other a file: give two urls, or two files of `measure --json`")
    else:
        sessions = [read(Path(name)) for name in names]
    verdict = compare(*sessions)
    print("\n".join(line for table in tables(verdict) for line in (*table.lines(), "")))
    print("\n".join(sentences(verdict)))
    if given.json is not None:
        write_json(given.json, {**json_of(verdict), "sessions": [session.json() for session in sessions]})
    _write_page(given.html, sessions, verdict)
    return FAILED if any(verdict.failed) else OK


def _asked_in_turn(urls: list[str], labelled: Labelled, given: argparse.Namespace) -> list[Session]:
    with ExitStack() as stack:
        endpoints = [stack.enter_context(closing(opened(url, given))) for url in urls]
        for endpoint in endpoints:
            endpoint.check(labelled)
        runs = in_turn(endpoints, labelled, given.repeats)
        return [Session.of(endpoint, labelled, (run,)) for endpoint, run in zip(endpoints, runs, strict=True)]


def _report(given: argparse.Namespace) -> int:
    sessions = [read(path) for path in given.files]
    for session in sessions:
        _show(session)
    _write_page(given.html, sessions, None)
    return OK


def _show(session: Session) -> None:
    for run in session.runs:
        print("\n".join([*block(session.name, run, session.rows), *remarks(run), ""]))


def _write_page(path: Path | None, sessions: list[Session], verdict: Verdict | None) -> None:
    if path is not None:
        from build.bench.report import report  # here, because matplotlib is slow to import and a run may not need it

        write_bytes(path, report(sessions, verdict))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"--system {path} cannot be read ({error}): give a text file in UTF-8") from None


def _complain(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


_COMMANDS = {"measure": _measure, "compare": _compare, "report": _report}


if __name__ == "__main__":
    sys.exit(main())
