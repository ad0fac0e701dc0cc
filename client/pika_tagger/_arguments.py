"""The arguments of pika-tag: which commands and flags there are, and what a value must look like.

What the commands do is in `cli`. A flag that several commands share is added to the parser that they have as their parent.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pika_tagger import __version__, _connection
from pika_tagger._settings import DEFAULT_URL

STRATEGIES = ("codes", "words", "json")

_COMMANDS = ("tag", "eval", "bench", "health")
_OPTIONS_WITH_VALUE = (*_connection.OPTIONS_WITH_VALUE, "--before", "--strategy")

_EPILOG = f"""\
settings: flag, then environment ({_connection.URL_VARIABLE}), then default ({DEFAULT_URL})

exit status:
  0    all done
  1    a request failed, or a limit was missed
  2    wrong usage, or bad input
  130  interrupted
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments, with the name of the command as `command`; wrong ones end the process with status 2."""
    return _parser().parse_args(_with_command(list(argv)))


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
    _connection.add(common)
    asking = argparse.ArgumentParser(add_help=False, parents=[common])
    asking.add_argument("--strategy", choices=STRATEGIES, help="how the model is asked (default: as the server is set)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{tag,eval,bench,health}")
    command = partial(commands.add_parser, formatter_class=raw, epilog=_EPILOG)

    tag = command(
        "tag",
        parents=[asking],
        help="tag one line, or JSON lines from standard input",
        description="Tag one line of Pika, or without lines the JSON lines on standard input, which have user_last_message, pika_response "
        "and\noptionally pika_last_message: each is answered by one JSON line, null if it could not be tagged.",
    )
    tag.add_argument("lines", nargs="*", metavar="LINE", help="what the child said, and what Pika is about to say")
    tag.add_argument("--before", metavar="LINE", help="what Pika had said before that")
    tag.add_argument("--json", action="store_true", help="print JSON, as for standard input")

    evaluate = command(
        "eval",
        parents=[asking],
        help="accuracy and latency on labelled JSON lines",
        description="Tag labelled dialogues and compare. A line has user_last_message, pika_response, optionally pika_last_message,\n"
        "emotion (a label or a list of acceptable ones), celebrate (yes or no), optionally id and lang.",
    )
    evaluate.add_argument("file", metavar="FILE", type=Path, help="labelled JSON lines")
    evaluate.add_argument("--json", metavar="OUT", type=Path, required=True, help="where to write figures and predictions")
    evaluate.add_argument("--gap-ms", metavar="N", type=_milliseconds, default=0.0, help="pause between requests (default 0)")
    evaluate.add_argument(
        "--pictures", metavar="DIR", type=Path, help="draw confusion, reliability and celebrations as PNG (needs matplotlib)"
    )
    evaluate.add_argument("--min-emotion", metavar="P", type=_share, help="exit 1 if accuracy is below, such as 0.95")
    evaluate.add_argument("--min-celebrate", metavar="P", type=_share, help="the same for celebrate")
    evaluate.add_argument("--min-macro-f1", metavar="P", type=_share, help="the same for the mean F1 of the emotions")
    evaluate.add_argument("--max-ece", metavar="P", type=_share, help="exit 1 if a calibration error is above, such as 0.08")
    evaluate.add_argument("--show-text", action="store_true", help="show the words of the worst mistakes")

    bench = command(
        "bench",
        parents=[common],
        help="latency under load",
        description="Ask for the dialogues of a file (JSON lines as for `tag`; labels are ignored) again and again, and show latencies,\n"
        "goodput at 25 and 50 ms, and what Triton says about itself. A line that was just asked is cheaper: have many dialogues.",
    )
    bench.add_argument("file", metavar="FILE", type=Path, help="JSON lines")
    bench.add_argument("--requests", metavar="N", type=count, default=200, help="requests in each run (default 200)")
    bench.add_argument("--concurrency", metavar="N", type=count, nargs="+", default=[1], help="so many callers at a time (default 1)")
    bench.add_argument("--rate", metavar="HZ", type=_rate, nargs="+", default=[], help="lines a second, arriving at random (Poisson)")
    bench.add_argument("--seed", metavar="N", type=int, default=0, help="of the arrivals")
    bench.add_argument(
        "--cold",
        action="store_true",
        help="one more run with an unrelated prompt through the engine before each request, which is not timed",
    )
    bench.add_argument("--json", metavar="OUT", type=Path, help="where to write the figures")
    bench.add_argument("--pictures", metavar="DIR", type=Path, help="draw latencies as PNG (needs matplotlib)")
    bench.add_argument("--max-p95-ms", metavar="N", type=_milliseconds, help="exit 1 if a run is slower at p95")

    health = command("health", parents=[common], help="tag a neutral line")
    health.add_argument("--json", action="store_true", help="print JSON")
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


def count(text: str) -> int:
    """A flag's value as a whole number, 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give a whole number, 1 or more")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("give requests a second, above 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("give a share between 0 and 1: 0.95 for 95 %")
    return value
