"""The command line of the benchmark: `python -m build.bench measure`, `compare`, `report`.

This module holds the commands and exit statuses: 0 all done, 1 a request failed, 2 wrong usage or nobody answers, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from build.bench import vllm_result
from build.bench.arguments import parse
from build.bench.asked import How, opened, sessions_in_turn
from build.bench.block import block, remarks
from build.bench.compare import Verdict, compare
from build.bench.measure import Offer, measure
from build.bench.session import Session, read
from build.bench.verdict import json_of, sentences, tables
from build.errors import PipelineError
from one_pass import TaskError
from pika_tagger import TaggerError, _connection
from pika_tagger._files import write_bytes, write_json
from pika_tagger._labelled import BadFileError, load, shortened
from pika_tagger._render import progress

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    given = parse(arguments)
    try:
        _check_places(given)
        return _COMMANDS[given.command](given)
    except BadFileError as error:
        return _complain("\n  ".join([f"{given.data} cannot be used:", *shortened(error.problems)]), USAGE)
    except (PipelineError, TaggerError, TaskError) as error:
        return _complain(str(error), USAGE)
    except OSError as error:
        return _complain(f"the results were not written: {error}", FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _measure(given: argparse.Namespace) -> int:
    labelled = load(given.data)
    offers = [Offer(given.requests, callers=callers) for callers in given.concurrency]
    offers += [Offer(given.requests, rate_hz=rate_hz, seed=given.seed) for rate_hz in given.rate]
    offers = offers or [Offer(given.requests, callers=1)]
    with closing(opened(given.endpoint, _how(given))) as endpoint:
        endpoint.check(labelled)
        runs = tuple(progress(measure(endpoint, labelled, offers), len(offers), sys.stderr, "run"))
        session = Session.of(endpoint, labelled, runs)
    _show(session)
    if given.json is not None:
        write_json(given.json, session.json())
    _write_page(given.html, [session], None)
    return FAILED if any(run.failures for run in session.runs) else OK


def _compare(given: argparse.Namespace) -> int:
    names = [given.a, given.b]
    if all("://" in name for name in names):
        sessions = sessions_in_turn(names, load(given.data), _how(given), given.repeats)
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


def _report(given: argparse.Namespace) -> int:
    sessions = [vllm_result.read(path) if vllm_result.is_one(path) else read(path) for path in given.files]
    for session in sessions:
        _show(session)
    _write_page(given.html, sessions, None)
    return OK


def _check_places(given: argparse.Namespace) -> None:
    """Find out that results could not be written before a long run is made for them."""
    for name in ("json", "html"):
        path: Path | None = getattr(given, name, None)
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise PipelineError(f"--{name} {path} cannot be written: give a new file in an existing folder")


def _how(given: argparse.Namespace) -> How:
    return How(given.task, given.model, given.system, given.timeout_s, _connection.metadata([]))


def _show(session: Session) -> None:
    for run in session.runs:
        print("\n".join([*block(session.name, run, session.rows), *remarks(run), ""]))


def _write_page(path: Path | None, sessions: list[Session], verdict: Verdict | None) -> None:
    if path is not None:
        from build.bench.report import report  # here, because matplotlib is slow to import and a run may not need it

        write_bytes(path, report(sessions, verdict))


def _complain(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


_COMMANDS = {"measure": _measure, "compare": _compare, "report": _report}


if __name__ == "__main__":
    sys.exit(main())
