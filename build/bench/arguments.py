"""The arguments of the benchmark: which commands and flags there are, and what a value must look like.

What the commands do is in `__main__`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from build.argument_types import positive
from build.bench.measure import WARM_UP
from build.evaluate import DIALOGUES
from pika_tagger._arguments import count

_EXAMPLES = """\
an endpoint is
  grpc://HOST:PORT         our tagger
  grpc://HOST:PORT/json    the same, asked by strategy codes, words or json
  http://HOST:PORT/v1      an OpenAI-compatible server: vLLM, LMDeploy, trtllm-serve
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments, with the name of the command as `command`; wrong ones end the process with status 2."""
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m build.bench",
        formatter_class=raw,
        description="One benchmark for the tagger and for OpenAI-compatible servers.",
        epilog=_EXAMPLES,
    )
    commands = parser.add_subparsers(required=True, metavar="{measure,compare,report}")
    asking = argparse.ArgumentParser(add_help=False)
    asking.add_argument("--data", metavar="FILE", type=Path, default=DIALOGUES, help="labelled JSON lines (default: our evaluation file)")
    asking.add_argument("--model", metavar="NAME", help="as an OpenAI-compatible server calls it (default: its only one)")
    asking.add_argument("--system", metavar="FILE", type=Path, help="the system prompt for it, instead of the one made from the task file")
    asking.add_argument("--task", metavar="NAME", default="pika_mood", help="the task file (default: %(default)s)")
    asking.add_argument("--timeout-s", metavar="N", type=positive, default=600.0, help="for one request (default: %(default)g)")
    asking.add_argument("--json", metavar="OUT", type=Path, help="write all of it as JSON")
    asking.add_argument("--html", metavar="OUT", type=Path, help="write a page with pictures and explanations")

    one = commands.add_parser(
        "measure", parents=[asking], formatter_class=raw, epilog=_EXAMPLES, help="latency and accuracy of an endpoint"
    )
    one.add_argument("endpoint", metavar="ENDPOINT")
    one.add_argument(
        "--requests",
        metavar="N",
        type=count,
        default=400,
        help=f"in each run, after {WARM_UP} to warm up (default: %(default)s)",
    )
    one.add_argument("--concurrency", metavar="N", type=count, nargs="+", default=[], help="so many callers at a time (default: 1)")
    one.add_argument(
        "--rate", metavar="HZ", type=_rate, nargs="+", default=[], help="requests a second, arriving at random; inf: all at once"
    )
    one.add_argument("--seed", metavar="N", type=int, default=0, help="of the arrivals")
    one.set_defaults(command="measure")

    two = commands.add_parser(
        "compare", parents=[asking], formatter_class=raw, epilog=_EXAMPLES, help="A, what there is, and B, what may come"
    )
    two.add_argument("a", metavar="A", help="an endpoint, or a file of `measure --json`")
    two.add_argument("b", metavar="B", help="likewise; two endpoints are asked in turn, one dialogue after the other")
    two.add_argument("--repeats", metavar="N", type=count, default=1, help="how often to go through the file (default: %(default)s)")
    two.set_defaults(command="compare")

    page = commands.add_parser("report", help="the page of runs that were made before")
    page.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="of `measure --json`, or of `vllm bench serve --save-result --save-detailed`"
    )
    page.add_argument("--html", metavar="OUT", type=Path, required=True)
    page.set_defaults(command="report")
    return parser


def _rate(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("give requests a second, above 0, or inf")
    return value
