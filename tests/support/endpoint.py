"""The metrics endpoint of a server, as numbers."""

import time
import urllib.request

from build.serve import Server
from build.server_options import LOOPBACK
from tests.support import metrics

Samples = dict[str, float]
_UNTOLD_S = 0.6
"""More than two of the tagger's TELL_PERIOD_S: what it counted before is told after it."""


def text(server: Server) -> str:
    """What Prometheus would read."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{server.ports.metrics_port}/metrics") as response:
        read: bytes = response.read()
    return read.decode()


def settled(server: Server) -> Samples:
    """All samples by name and labels, once what was counted has been told."""
    time.sleep(_UNTOLD_S)
    found = samples(server)
    while True:
        time.sleep(_UNTOLD_S)
        again = samples(server)
        if ours(again) == ours(found):
            return again
        found = again


def samples(server: Server) -> Samples:
    """All samples by name and labels, labels in the order of their names."""
    found = {}
    for name, labels, value in metrics.samples(text(server)):
        written = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
        found[f"{name}{{{written}}}" if written else name] = value
    return found


def ours(found: Samples) -> Samples:
    """Those that the tagger counts."""
    return {name: value for name, value in found.items() if name.startswith("pika_")}


def growth(before: Samples, after: Samples) -> Samples:
    """By how much each of ours has grown, those that have."""
    return {name: value - before.get(name, 0) for name, value in ours(after).items() if value != before.get(name, 0)}
