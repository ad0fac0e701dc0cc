"""pika-tag: the tagger on the command line.

    pika-tag "2+2=4" "Chính xác! Cậu giỏi quá!"      one line of Pika
    pika-tag < dialogues.jsonl                       JSON lines in, JSON lines out
    pika-tag eval labelled.jsonl --json report.json  accuracy and latency
    pika-tag health                                  does a tag come back?

Settings are taken from the flag, then from the environment, then from the default. Exit status:

    0    all done
    1    a request failed, or a threshold was missed
    2    wrong usage, or bad input
    130  interrupted

This module holds the arguments and exit statuses; the work of `eval` is done in `_labelled`, `_evaluate` and `_render`.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pika_tagger import __version__, _evaluate, _labelled, _render
from pika_tagger._client import DEFAULT_URL, TaggerClient
from pika_tagger._errors import InvalidRequestError, InvalidSettingError, TaggerError

URL_VARIABLE = "PIKA_TAGGER_URL"
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_COMMANDS = ("tag", "eval", "health")
_OPTIONS_WITH_VALUE = ("--url", "--before")
_MAX_PROBLEMS = 20

_EPILOG = f"""\
settings: flag, then environment ({URL_VARIABLE}), then default ({DEFAULT_URL})

exit status:
  0    all done
  1    a request failed, or a threshold was missed
  2    wrong usage, or bad input
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run pika-tag and return its exit status."""
    arguments = _parser().parse_args(_with_command(list(sys.argv[1:] if argv is None else argv)))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows `?` and goes on
    try:
        with TaggerClient(arguments.url) as tagger:
            status: int = arguments.run(tagger, arguments)
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


def _tag(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    if not arguments.lines and arguments.before is None and not sys.stdin.isatty():
        return _tag_standard_input(tagger)
    if len(arguments.lines) != 2:
        return _complain("give the child's line and Pika's line, or JSON lines on standard input (see pika-tag --help)", USAGE)
    child, pika = arguments.lines
    tag = tagger.tag(user_last_message=child, pika_response=pika, pika_last_message=arguments.before)
    if arguments.json:
        print(tag.json())
    else:
        celebrate = "yes" if tag.celebrate else "no"
        print(f"{tag.emotion_name}   celebrate: {celebrate}   confidence {tag.confidence:.2f}   {tag.latency_ms:.1f} ms")
    return OK


def _tag_standard_input(tagger: TaggerClient) -> int:
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
                answer = tagger.tag(**texts).json()
            except TaggerError as error:
                status = _complain(f"line {number}: {error}", _status_of(error))
        print(answer, flush=True)
        gravest = max(gravest, status)
    return gravest


def _eval(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    labelled = _labelled.load(arguments.file)
    out = arguments.json
    if not out.parent.is_dir() or out.is_dir() or out.resolve() == arguments.file.resolve():
        return _complain(f"--json {out} cannot be written: give a new file in an existing folder", USAGE)
    tagger.health()  # fails at once if nobody answers, and keeps the cost of connecting out of the first figure
    labelled.check_labels(tagger.labels)

    rows = labelled.rows
    outcomes = list(_render.progress(_evaluate.run(tagger, rows, arguments.gap_ms), len(rows), sys.stderr))
    figures = _evaluate.figures_of(outcomes)
    settings = {
        "url": arguments.url,
        "file": str(labelled.path),
        "file_sha256": labelled.sha256,
        "client_version": __version__,
        "gap_ms": arguments.gap_ms,
        "min_emotion": arguments.min_emotion,
        "min_celebrate": arguments.min_celebrate,
    }
    predictions = [_evaluate.prediction(outcome) for outcome in outcomes]
    status = OK
    try:
        _evaluate.write_json(out, {"figures": figures.json(), "settings": settings, "predictions": predictions})
    except OSError as error:
        status = _complain(f"--json {out} was not written: {error.strerror}", FAILED)
    for line in _render.report(figures, outcomes, arguments.gap_ms, show_text=arguments.show_text):
        print(line)
    return max(status, _judge(figures, outcomes, arguments))


def _judge(figures: _evaluate.Figures, outcomes: Sequence[_evaluate.Outcome], arguments: argparse.Namespace) -> int:
    status = OK
    for outcome in [outcome for outcome in outcomes if outcome.error][:_MAX_PROBLEMS]:
        _complain(f"line {outcome.row.line}: {outcome.error}", FAILED)
    if figures.failed:
        status = _complain(f"{figures.failed} of {len(outcomes)} requests failed, and count as wrong", FAILED)
    thresholds = (("emotion", figures.emotion, arguments.min_emotion), ("celebrate", figures.celebrate, arguments.min_celebrate))
    for name, count, wanted in thresholds:
        if count.accuracy < wanted:
            status = _complain(f"{name} accuracy {count.accuracy:.4f} is below the wanted {wanted:g}", FAILED)
    return status


def _health(tagger: TaggerClient, arguments: argparse.Namespace) -> int:
    tag = tagger.health()
    answer = {"url": arguments.url, "healthy": True, "latency_ms": round(tag.latency_ms, 3)}
    print(json.dumps(answer) if arguments.json else f"{arguments.url} answers: a tag in {tag.latency_ms:.1f} ms")
    return OK


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="pika-tag",
        formatter_class=raw,
        description='Tag lines of Pika: pika-tag "child\'s line" "Pika\'s line" is short for pika-tag tag ...',
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"pika-tag {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    common.add_argument("--url", metavar="HOST:PORT", default=url, help=f"gRPC endpoint of Triton (now {url})")
    commands = parser.add_subparsers(required=True, metavar="{tag,eval,health}")

    tag = commands.add_parser(
        "tag",
        parents=[common],
        formatter_class=raw,
        epilog=_EPILOG,
        help="tag one line, or JSON lines from standard input",
        description="Tag one line of Pika, or without lines the JSON lines on standard input, which have user_last_message, pika_response "
        "and\noptionally pika_last_message: each is answered by one JSON line, null if it could not be tagged.",
    )
    tag.add_argument("lines", nargs="*", metavar="LINE", help="what the child said, and what Pika is about to say")
    tag.add_argument("--before", metavar="LINE", help="what Pika had said before that")
    tag.add_argument("--json", action="store_true", help="print JSON, as for standard input")
    tag.set_defaults(run=_tag)

    evaluate = commands.add_parser(
        "eval",
        parents=[common],
        formatter_class=raw,
        epilog=_EPILOG,
        help="accuracy and latency on labelled JSON lines",
        description="Tag labelled dialogues and compare. A line has user_last_message, pika_response, optionally pika_last_message,\n"
        "emotion (a label or a list of acceptable ones), celebrate (yes or no), optionally id and lang.",
    )
    evaluate.add_argument("file", metavar="FILE", type=Path, help="labelled JSON lines")
    evaluate.add_argument("--json", metavar="OUT", type=Path, required=True, help="where to write figures and predictions")
    evaluate.add_argument("--gap-ms", metavar="N", type=_milliseconds, default=0.0, help="pause between requests (default 0)")
    evaluate.add_argument("--min-emotion", metavar="P", type=_share, default=0.0, help="exit 1 if accuracy is below, such as 0.95")
    evaluate.add_argument("--min-celebrate", metavar="P", type=_share, default=0.0, help="the same for celebrate")
    evaluate.add_argument("--show-text", action="store_true", help="show the words of the worst mistakes")
    evaluate.set_defaults(run=_eval)

    health = commands.add_parser("health", parents=[common], formatter_class=raw, epilog=_EPILOG, help="tag a neutral line")
    health.add_argument("--json", action="store_true", help="print JSON")
    health.set_defaults(run=_health)
    return parser


def _with_command(argv: list[str]) -> list[str]:
    """Return `argv` with the command in front, which is `tag` unless another is named before any other word."""
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        if argv[position] in ("-h", "--help", "--version"):
            return argv
        position += 2 if argv[position] in _OPTIONS_WITH_VALUE else 1
    if position < len(argv) and argv[position] in _COMMANDS and "--" not in argv[:position]:
        return [argv[position], *argv[:position], *argv[position + 1 :]]
    return ["tag", *argv]


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("give milliseconds, 0 or more")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("give a share between 0 and 1: 0.95 for 95 %")
    return value


def _status_of(error: TaggerError) -> int:
    return USAGE if isinstance(error, (InvalidSettingError, InvalidRequestError)) else FAILED


def _complain(message: str, status: int) -> int:
    print(f"pika-tag: {message}", file=sys.stderr)
    return status


def _complain_about_file(path: Path, error: _labelled.BadFileError) -> int:
    for problem in error.problems[:_MAX_PROBLEMS]:
        _complain(f"{path}: {problem}", USAGE)
    if len(error.problems) > _MAX_PROBLEMS:
        _complain(f"{path}: and {len(error.problems) - _MAX_PROBLEMS} more", USAGE)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
