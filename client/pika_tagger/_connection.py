"""How pika-tag reaches the server: address, TLS and metadata, by flag, then by environment, then by default.

A new setting is a row of `_OPTIONS`, and a word in client/README.md.
"""

import argparse
import os
from collections.abc import Sequence

from pika_tagger._channel import Tls
from pika_tagger._errors import InvalidSettingError
from pika_tagger._settings import DEFAULT_URL

URL_VARIABLE = "PIKA_TAGGER_URL"
METADATA_VARIABLE = "PIKA_TAGGER_METADATA"

_OPTIONS = (
    ("--tls-authority", "PIKA_TAGGER_TLS_AUTHORITY", "PEM file of the authorities to trust; turns TLS on"),
    ("--tls-certificate", "PIKA_TAGGER_TLS_CERTIFICATE", "PEM file of the own certificate, for mutual TLS"),
    ("--tls-key", "PIKA_TAGGER_TLS_KEY", "PEM file of its key"),
)
VARIABLES = (URL_VARIABLE, METADATA_VARIABLE, *(variable for _, variable, _ in _OPTIONS))
OPTIONS_WITH_VALUE = ("--url", "--metadata", *(option for option, _, _ in _OPTIONS))


def add(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags."""
    url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    parser.add_argument("--url", metavar="HOST:PORT", default=url, help=f"gRPC endpoint of Triton (now {url})")
    parser.add_argument("--tls", action="store_true", help="encrypt, and trust the authorities that gRPC brings along")
    for option, variable, meaning in _OPTIONS:
        parser.add_argument(option, metavar="FILE", default=os.environ.get(variable) or None, help=f"{meaning} (or {variable})")
    parser.add_argument(
        "--metadata",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"sent with each call, for instance a token; may be repeated. {METADATA_VARIABLE} has such lines, too, and is not shown in "
        "the list of processes",
    )


def tls(arguments: argparse.Namespace) -> Tls | None:
    """What the flags say about encryption; None for none."""
    files = (arguments.tls_authority, arguments.tls_key, arguments.tls_certificate)
    return Tls(*files) if arguments.tls or any(files) else None


def metadata(flags: Sequence[str]) -> dict[str, str]:
    """What is sent with each call: NAME=VALUE by flags, which come first, and in the environment.

    Raises:
        InvalidSettingError: Something is not NAME=VALUE. The message does not show it, because it may be a secret.
    """
    found = {}
    for source, lines in ((METADATA_VARIABLE, os.environ.get(METADATA_VARIABLE, "").splitlines()), ("--metadata", flags)):
        for line in filter(str.strip, lines):
            name, equals, value = line.partition("=")
            if not equals:
                raise InvalidSettingError(f"{source} has something without '=': give NAME=VALUE")
            found[name.strip()] = value.strip()
    return found
