"""pika-tag: the tagger on the command line.

    pika-tag "2+2=4" "Chính xác! Cậu giỏi quá!"      one line of Pika
    pika-tag < dialogues.jsonl                       JSON lines in, JSON lines out
    pika-tag eval labelled.jsonl --json report.json  accuracy and latency
    pika-tag bench dialogues.jsonl --rate 20         latency under load
    pika-tag health                                  does a tag come back?

Settings are taken from the flag, then from the environment, then from the default. Exit status:

    0    all done
    1    a request failed, or a limit was missed
    2    wrong usage, or bad input
    130  interrupted

This module holds the commands and exit statuses; arguments are in `_arguments`, the work of `eval` is in `_labelled`, `_outcomes`,
`_evaluate`, `_render` and `_pictures`, that of `bench` in `_bench_command`, `_load`, `_server_split`, `_bench` and `_bench_picture`.
"""

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pika_tagger import __version__, _arguments, _bench_command, _connection, _evaluate, _files, _labelled, _outcomes, _render
from pika_tagger import _bench as _figures_of_bench
from pika_tagger._client import TaggerClient
from pika_tagger._errors import InvalidRequestError, InvalidSettingError, TaggerError
from pika_tagger._wanted import Wanted, missed

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run pika-tag and return its exit status."""
    arguments = _arguments.parse(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows `?` and goes on
    try:
        with _connected(arguments) as tagger:
            status = _COMMANDS[arguments.command](tagger, arguments)
            sys.stdout.flush()
            return status
    except TaggerError as error:
        return _complain(str(error), _status_of(error))
    except _labelled.BadFileError as error:
        return _complain_about_file(arguments.file, error)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does; Python must not try to flush again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _connected(arguments: argparse.Namespace) -> TaggerClient:
    tls, metadata = _connection.tls(arguments), _connection.metadata(arguments.metadata)
    return TaggerClient(arguments.url, budget_ms=math.inf, on_failure="raise", tls=tls, metadata=metadata)


def _tag(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    if not arguments.lines and arguments.before is None and not sys.stdin.isatty():
        return _tag_standard_input(tagger, arguments.strategy)
    if len(arguments.lines) != 2:
        return _complain("give the child's line and Pika's line, or JSON lines on standard input (see pika-tag --help)", USAGE)
    child, pika = arguments.lines
    tag = tagger.tag(user_last_message=child, pika_response=pika, pika_last_message=arguments.before, strategy=arguments.strategy)
    if arguments.json:
        print(tag.json())
    else:
        celebrate = "yes" if tag.celebrate else "no"
        print(f"{tag.emotion_name}   celebrate: {celebrate}   confidence {tag.confidence:.2f}   {tag.latency_ms:.1f} ms with connecting")
    return OK


def _tag_standard_input(tagger: TaggerClient, strategy: str | None) -> int:
    """Answer every line that is not blank by one line, `null` where there is no tag; return the gravest status."""
    gravest = OK
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        answer, status = "null", OK
        try:
            texts = _labelled.dialogue_texts(_labelled.parse_object(line))
        except ValueError as error:
            status = _complain(f"line {number}: {error}", USAGE)
        else:
            try:
                answer = tagger.tag(**texts, strategy=strategy).json()
            except TaggerError as error:
                status = _complain(f"line {number}: {error}", _status_of(error))
        print(answer, flush=True)
        gravest = max(gravest, status)
    return gravest


def _eval(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    labelled = _labelled.load(arguments.file)
    if problem := _files.cannot_write(arguments.json, arguments.file, arguments.pictures, "pika_tagger._pictures"):
        return _complain(problem, USAGE)
    _outcomes.first_answer(tagger, arguments.strategy)
    labelled.check_labels(tagger.server_info().labels)

    rows, strategy, gap_ms = labelled.rows, arguments.strategy, arguments.gap_ms
    outcomes = list(_render.progress(_outcomes.run(tagger, rows, gap_ms, strategy), len(rows), sys.stderr))
    figures = _evaluate.figures_of(outcomes)
    wanted = Wanted(arguments.min_emotion, arguments.min_celebrate, arguments.min_macro_f1, arguments.max_ece)
    settings = {
        "url": arguments.url,
        "file": str(labelled.path),
        "file_sha256": labelled.sha256,
        "client_version": __version__,
        "strategy": strategy,
        "gap_ms": gap_ms,
        **asdict(wanted),
    }
    predictions = [_outcomes.prediction(outcome) for outcome in outcomes]
    status = _write(arguments, {"figures": figures.json(), "settings": settings, "predictions": predictions}, figures)
    conditions = f"strategy {strategy or 'as the server is set'}, {gap_ms:g} ms between requests"
    for line in _render.report(figures, outcomes, conditions=conditions, show_text=arguments.show_text):
        print(line)
    for outcome in [outcome for outcome in outcomes if outcome.error][: _labelled.MOST_SHOWN]:
        _complain(f"line {outcome.row.line}: {outcome.error}", FAILED)
    return max([status, *(_complain(sentence, FAILED) for sentence in missed(figures, wanted))])


def _write(arguments: argparse.Namespace, report: dict[str, Any], figures: _evaluate.Figures) -> int:
    status = OK
    try:
        _files.write_json(arguments.json, report)
    except OSError as error:
        status = _complain(f"--json {arguments.json} was not written: {error.strerror}", FAILED)
    if arguments.pictures is not None:
        from pika_tagger import _pictures  # not at the top: only who wants pictures needs matplotlib

        try:
            _pictures.write(figures, arguments.pictures, arguments.strategy or "as the server is set")
        except OSError as error:
            status = _complain(f"--pictures {arguments.pictures} were not written: {error.strerror}", FAILED)
    return status


def _bench(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    dialogues = _labelled.load_dialogues(arguments.file)
    if problem := _files.cannot_write(arguments.json, arguments.file, arguments.pictures, "pika_tagger._bench_picture"):
        return _complain(problem, USAGE)
    server = asdict(tagger.server_info())
    wanted = _bench_command.planned(arguments)
    runs = list(_render.progress(_bench_command.runs(tagger, arguments, dialogues), wanted, sys.stderr, unit="run"))
    for line in _figures_of_bench.table(runs):
        print(line)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items() if name != "metadata"}
    status = OK
    try:
        if arguments.json is not None:
            report = {"server": server, "client_version": __version__, "settings": settings, "runs": [run.json() for run in runs]}
            _files.write_json(arguments.json, report)
        if arguments.pictures is not None:
            from pika_tagger import _bench_picture  # as above

            _bench_picture.write(runs, arguments.pictures)
    except OSError as error:
        status = _complain(f"the results were not written: {error}", FAILED)
    return max([status, *(_complain(sentence, FAILED) for sentence in _bench_command.missed(runs, arguments.max_p95_ms))])


def _health(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    tag = tagger.health()
    answer = {"url": arguments.url, "healthy": True, "latency_ms": round(tag.latency_ms, 3)}
    print(json.dumps(answer) if arguments.json else f"{arguments.url} answers: a tag in {tag.latency_ms:.1f} ms with connecting")
    return OK


def _status_of(error: TaggerError) -> int:
    return USAGE if isinstance(error, (InvalidSettingError, InvalidRequestError)) else FAILED


def _complain(message: str, status: int) -> int:
    print(f"pika-tag: {message}", file=sys.stderr)
    return status


def _complain_about_file(path: Path, error: _labelled.BadFileError) -> int:
    for problem in _labelled.shortened(error.problems):
        _complain(f"{path}: {problem}", USAGE)
    return USAGE


_COMMANDS = {"tag": _tag, "eval": _eval, "bench": _bench, "health": _health}


if __name__ == "__main__":
    sys.exit(main())
