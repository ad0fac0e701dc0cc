"""How many tags a server can give, and how many servers a fleet of robots needs: `python -m build.capacity [--help]`.

What `build.roofline` expects of GPUs and what `pika-tag eval` has measured is put through the simulation in `build.fleet`. `--write` brings
docs/capacity.md and its picture up to date. The measured times are kept beside this module, so that the page can be made again; prices are
for whoever asks to put in.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from build import ROOT, fleet, roofline, settings
from build.argument_types import positive
from build.errors import PipelineError
from build.fleet import Talk, Times
from build.fleet_servers import Server, batch_ms, measured_ms, on_paper, one_by_one
from build.fleet_size import BUDGET_MS, busiest_minute, percentiles_ms, smallest
from build.gpu_specs import KNOWN, L4, RTX_3090, GpuSpec
from build.page import MadePart, markdown
from build.roofline import FLOOR
from build.trtllm_build import gpu_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = ROOT / "build" / "capacity_data" / "cpu.json"
PICTURE = ROOT / "docs" / "pictures" / "capacity.png"
PART = MadePart(ROOT / "docs" / "capacity.md", "python -m build.capacity --write")
BATCHES = (1, 4, 8)
GPUS = {"l4": L4, "rtx3090": RTX_3090}
"""By the names of their targets."""
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9)
ROBOTS = (100, 1000, 3000, 10_000)
USED = (0.1, 0.3, 0.6)
_HOURS = 0.5
_SEED = 20261121
_REQUESTS = 100_000


def known() -> tuple[Server, ...]:
    """The servers that the page is about."""
    gpus = [on_paper(gpu, gpu_of(settings.target(target)).max_batch_size) for target, gpu in GPUS.items()]
    return (one_by_one("CPU, measured", json.loads(DATA.read_text(encoding="utf-8"))), *gpus)


def gpu_table(gpus: Sequence[GpuSpec]) -> str:
    """Time of a pass over a batch of tags, and tags a second: by the data sheet alone, and with software as `build.roofline` has it."""
    rows = []
    for gpu in gpus:
        row = [gpu.name]
        for batch in BATCHES:
            low, high = (batch_ms(gpu, batch, how) for how in (FLOOR, roofline.expected()))
            row += [f"{low:.1f} to {high:.1f}", f"{1000 * batch / high:.0f} to {1000 * batch / low:.0f}"]
        rows.append(row)
    return markdown(("GPU", *(heading for batch in BATCHES for heading in (f"{batch} at once, ms", "tags/s"))), rows)


def load_table(servers: Sequence[Server]) -> str:
    """What one server makes of requests that arrive at random, by how much of it is used."""
    rows = [
        (server.name, f"{server.tags_per_s:.0f}", f"{load:.0%}", *(f"{ms:.1f}" for ms in percentiles_ms(under_load(server, load))))
        for server in servers
        for load in LOADS
    ]
    return markdown(("server", "tags/s it can", "used", "p50 ms", "p95 ms", "p99 ms"), rows)


def under_load(server: Server, load: float) -> Times:
    """Seconds that requests take at one server of which this share of what it can is asked, arrivals at random."""
    rng = np.random.default_rng(_SEED)
    arrived = np.cumsum(rng.exponential(1 / (load * server.tags_per_s), _REQUESTS))
    return fleet.one_queue(arrived, 1, server.most, server.seconds(_REQUESTS, rng))


def fleet_row(server: Server, talk: Talk) -> tuple[str, ...]:
    """One row of the table of fleets."""
    rng = np.random.default_rng(_SEED)
    arrived = fleet.arrivals(talk, _HOURS, rng)
    seconds = server.seconds(len(arrived), rng)
    own = smallest(arrived, lambda n: fleet.own_queues(arrived, n, server.most, seconds, np.random.default_rng(_SEED)))
    shared = smallest(arrived, lambda n: fleet.one_queue(arrived, n, server.most, seconds))
    tags_per_s = len(arrived) / (3600 * _HOURS)
    return (
        server.name,
        str(talk.robots),
        f"{tags_per_s:.1f}",
        f"{np.count_nonzero(busiest_minute(arrived)) / 60:.1f}",
        str(own.servers),
        f"{tags_per_s / server.tags_per_s / own.servers:.0%}",
        f"{own.late:.1%}",
        *(f"{ms:.1f}" for ms in own.percentiles_ms),
        str(shared.servers),
    )


def fleet_table(servers: Sequence[Server], talk: Talk, numbers: Sequence[int] = ROBOTS) -> str:
    """How many servers so many robots need."""
    times = tuple(f"p{rank} ms" for rank in (50, 95, 99))
    headings = ("server", "robots", "tags/s", "busiest minute", "servers", "used", "late", *times, "with one queue")
    return markdown(headings, [fleet_row(server, replace(talk, robots=robots)) for server in servers for robots in numbers])


def cost_table(servers: Sequence[Server], price_per_hour: float) -> str:
    """What a million tags cost on a server of that price, by how much of it is used."""
    rows = [
        (server.name, f"{server.tags_per_s:.0f}", *(f"{1e6 * price_per_hour / (3600 * server.tags_per_s * used):.2f}" for used in USED))
        for server in servers
    ]
    return markdown(("server", "tags/s it can", *(f"{used:.0%} used" for used in USED)), rows)


def picture(servers: Sequence[Server]) -> "Figure":
    """Times at one server by how much of it is used, one panel for each kind of server."""
    from matplotlib.figure import Figure  # here, because matplotlib is slow to import and the tables do without

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(servers), sharey=True, squeeze=False)[0]
    loads = np.linspace(0.05, 0.95, 19)
    for axes, server in zip(panels, servers, strict=True):
        for rank, times_ms in zip(
            (50, 95, 99), zip(*(percentiles_ms(under_load(server, load)) for load in loads), strict=True), strict=True
        ):
            axes.plot(100 * loads, times_ms, label=f"p{rank}")
        axes.axhline(BUDGET_MS, color="black", linestyle=":", linewidth=1)
        axes.set(title=f"{server.name}: {server.tags_per_s:.0f} tags/s", yscale="log", xlabel="used, %", ylabel="ms for a tag")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def made() -> str:
    """The part of the page that is made here."""
    tables = {
        "On paper: one GPU": gpu_table(KNOWN),
        "One server under load": load_table(known()),
        "A fleet": fleet_table(known(), Talk()),
        "A million tags, at a price of 1 an hour": cost_table(known(), 1.0),
    }
    return "\n\n".join(f"## {heading}\n\n{table}" for heading, table in tables.items())


def write_page() -> None:
    """Bring docs/capacity.md and its picture up to date."""
    PART.write(made())
    picture(known()).savefig(PICTURE, dpi=100, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what so many robots need, or bring the page up to date; return the exit status."""
    talk = Talk()
    parser = argparse.ArgumentParser(prog="python -m build.capacity", description="How many servers do so many robots need?")
    parser.add_argument("--robots", type=positive, default=talk.robots, help="default: %(default)s")
    parser.add_argument("--talking", type=_share, default=talk.talking, help="share of them in a conversation (default: %(default)s)")
    parser.add_argument(
        "--together", type=_share, default=talk.together, help="share of conversations begun together (default: %(default)s)"
    )
    parser.add_argument("--gap-s", type=positive, default=talk.gap_s, help="from line to line in a conversation (default: %(default)s)")
    parser.add_argument("--measured", type=Path, metavar="REPORT", help="service times from a report of `pika-tag eval --json`")
    parser.add_argument("--service-ms", type=positive, help="a service time that is always the same")
    parser.add_argument("--price-per-hour", type=positive, default=1.0, help="of one server (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="bring docs/capacity.md up to date instead, with REPORT if it is given")
    given = parser.parse_args(arguments)
    try:
        if given.write:
            if given.measured:
                DATA.parent.mkdir(exist_ok=True)
                DATA.write_text(json.dumps(measured_ms(given.measured)) + "\n", encoding="utf-8")
            write_page()
            print(f"wrote {PART.page} and {PICTURE}")
            return 0
        servers = known()
        if given.measured:
            servers = (one_by_one("measured", measured_ms(given.measured)),)
        elif given.service_ms:
            servers = (one_by_one("given", [given.service_ms]),)
        talk = replace(talk, robots=round(given.robots), talking=given.talking, together=given.together, gap_s=given.gap_s)
        print(fleet_table(servers, talk, (talk.robots,)), cost_table(servers, given.price_per_hour), sep="\n\n")
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("give a share above 0 and up to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
