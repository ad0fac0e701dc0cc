"""Task `plan`: what `build.roofline` expects of every GPU, as a table and a picture: `python -m build.plan [--help]`.

`--write` brings the table and the comparison in docs/plan.md and its picture up to date: everything between the page's two marks is made
here, and a test compares. What is assumed is in `build.roofline`; here it is only laid out.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build import ROOT, roofline, settings, trtllm_build
from build.gpu_specs import KNOWN, GpuSpec
from build.model_size import FORMATS, PHI_3_MINI, Format, engine_memory
from build.page import MadePart, markdown
from build.roofline import FLOOR, Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = ROOT / "docs" / "plan.md"
PICTURE = ROOT / "docs" / "pictures" / "plan.png"
PART = MadePart(PAGE, "python -m build.plan --write")
BUDGETS_MS = (25, 50)
SHAPE = PHI_3_MINI
_TIMES = ("prefill", "next token", "codes", "words", "json", "codes, cold")
_WITHIN = tuple(f"in {budget} ms" for budget in BUDGETS_MS)
_HEADINGS = ("GPU", "weights", "turn", *_TIMES, *_WITHIN, *(f"turn {within}" for within in _WITHIN), "VRAM GB")


def table(gpus: Sequence[GpuSpec], workload: Workload) -> str:
    """One row for each GPU and each number format that it can run; times in ms, floor and expected."""
    rows = [_row(gpu, format, workload) for gpu in gpus for format in FORMATS.values() if roofline.supports(gpu, format)]
    return markdown(_HEADINGS, rows)


def comparison() -> str:
    """The measured figures beside what the model says of the same GPU."""
    measured, software = roofline.MEASURED, roofline.expected()
    rows = []
    for tokens, ms in measured.ms_by_tokens.items():
        asked = roofline.generation(measured.workload, tokens)
        floor_ms, expected_ms = (
            roofline.requests_ms(measured.gpu, measured.shape, measured.format, asked, how) for how in (FLOOR, software)
        )
        used = "calculated from it" if tokens in (1, roofline.JSON_TOKENS) else "not used: a test"
        rows.append((str(tokens), f"{ms:.0f}", f"{floor_ms:.1f}", f"{ms / floor_ms:.0f} x", f"{expected_ms:.1f}", used))
    text = markdown(("tokens", "measured ms", "floor ms", "measured / floor", "expected ms", "the software's share"), rows)
    return f"{text}\n\nSoftware, calculated: {software.pass_ms:.1f} ms for each pass and {software.request_ms:.1f} ms for each request."


def picture(gpus: Sequence[GpuSpec], workload: Workload) -> "Figure":
    """Time of a tag over the length of the turn, 4-bit AWQ; one panel for each GPU, a band from floor to expected for each strategy."""
    from matplotlib.figure import Figure  # here, because matplotlib is slow to import and the table does without

    figure = Figure(figsize=(11, 3.4 * ((len(gpus) + 1) // 2)), layout="constrained")
    panels = list(figure.subplots((len(gpus) + 1) // 2, 2, sharey=True, squeeze=False).flat)
    for empty in panels[len(gpus) :]:
        empty.remove()
    turns = [8 * step for step in range(1, 49)]
    for axes, gpu in zip(panels, gpus, strict=False):
        for strategy in roofline.strategies(workload):
            low, high = zip(*(_times(gpu, FORMATS["int4_awq"], strategy, _with_turn(workload, turn)) for turn in turns), strict=True)
            axes.fill_between(turns, low, high, alpha=0.3, label=strategy)
            axes.plot(turns, high)
        for budget_ms in BUDGETS_MS:
            axes.axhline(budget_ms, color="black", linestyle=":", linewidth=1)
            axes.text(turns[-1], budget_ms, f"{budget_ms} ms", ha="right", va="bottom", fontsize=8)
        axes.set(title=gpu.name, yscale="log", xlabel="tokens in the turn", ylabel="ms for a tag", ylim=(0.3, 1000))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", ncols=3, fontsize=8)
    figure.suptitle(f"On paper: Phi-3-mini, 4-bit AWQ, prefix of {workload.prefix_tokens} tokens cached; bands from floor to expected")
    return figure


def write_page() -> None:
    """Bring docs/plan.md and its picture up to date."""
    gpus, workload = KNOWN, Workload()
    PART.write(made(gpus, workload))
    picture(gpus, workload).savefig(PICTURE, dpi=100, metadata={"Software": None})


def made(gpus: Sequence[GpuSpec], workload: Workload) -> str:
    """The part of the page that is made here."""
    return f"{table(gpus, workload)}\n\n## Against what was measured\n\n{comparison()}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or bring the page up to date."""
    parser = argparse.ArgumentParser(
        prog="python -m build.plan", description="How long a tag can take, on paper: times in ms, floor and expected."
    )
    parser.add_argument("--gb-per-s", type=float, help="memory bandwidth of a GPU that is not in the table; with --tflops")
    parser.add_argument("--tflops", type=float, help="its dense FP16 tensor TFLOPS with fp32 accumulation")
    parser.add_argument("--fp8-tflops", type=float, help="its dense FP8 TFLOPS, if it has FP8")
    parser.add_argument("--turn-tokens", type=int, default=Workload.turn_tokens, help="length of the dialogue (default: %(default)s)")
    parser.add_argument(
        "--prefix-tokens", type=int, default=Workload.prefix_tokens, help="length of the cached prefix (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the picture as well")
    parser.add_argument("--write", action="store_true", help="bring docs/plan.md and its picture up to date instead")
    given = parser.parse_args(arguments)
    if given.write:
        write_page()
        print(f"wrote {PAGE} and {PICTURE}")
        return
    speeds = [each for each in (given.gb_per_s, given.tflops, given.fp8_tflops) if each is not None]
    if speeds and None in (given.gb_per_s, given.tflops):
        parser.error("--gb-per-s and --tflops belong together: a roofline needs both")
    if not all(0 < speed < math.inf for speed in speeds):
        parser.error("bandwidth and TFLOPS must be above zero")
    if given.turn_tokens < 1 or given.prefix_tokens < 0 or given.turn_tokens + given.prefix_tokens > roofline.POSITIONS:
        parser.error(f"a turn has at least one token, and prefix and turn together at most {roofline.POSITIONS}")
    workload = Workload(given.prefix_tokens, given.turn_tokens)
    fp8_flops = given.fp8_tflops * 1e12 if given.fp8_tflops else None
    own = [GpuSpec("given", given.gb_per_s * 1e9, given.tflops * 1e12, fp8_flops)] if given.gb_per_s else []
    gpus = [*KNOWN, *own]
    print(table(gpus, workload))
    if given.picture:
        picture(gpus, workload).savefig(given.picture, dpi=100)
        print(f"wrote {given.picture}")


def _row(gpu: GpuSpec, format: Format, workload: Workload) -> tuple[str, ...]:
    strategies = roofline.strategies(workload)
    times = {strategy: _times(gpu, format, strategy, workload) for strategy in strategies}
    within = [", ".join(s for s, (_, high) in times.items() if high <= budget) or "-" for budget in BUDGETS_MS]
    software = roofline.expected()
    turns = [roofline.longest_turn(gpu, SHAPE, format, workload, budget, software) for budget in BUDGETS_MS]
    first, later = roofline.generation(workload, 2)[0]
    cold = roofline.generation(Workload(0, workload.prefix_tokens + workload.turn_tokens), 1)
    return (
        gpu.name,
        format.name,
        str(workload.turn_tokens),
        _range(*(roofline.pass_ms(gpu, SHAPE, format, first, how) for how in (FLOOR, software))),
        _range(*(roofline.pass_ms(gpu, SHAPE, format, later, how) for how in (FLOOR, software))),
        *(_range(*each) for each in times.values()),
        _range(*(roofline.requests_ms(gpu, SHAPE, format, cold, how) for how in (FLOOR, software))),
        *within,
        *(str(turn) if turn else "-" for turn in turns),
        f"{_memory_bytes(format) / 1e9:.1f}",
    )


def _memory_bytes(format: Format) -> float:
    """With the limits of target l4, whatever the GPU, so that formats can be compared."""
    limits = trtllm_build.gpu_of(settings.target("l4"))
    return engine_memory(SHAPE, format, limits, settings.model("phi-3-mini").max_seq_len).total_bytes


def _times(gpu: GpuSpec, format: Format, strategy: str, workload: Workload) -> tuple[float, float]:
    requests = roofline.strategies(workload)[strategy]
    low, high = (roofline.requests_ms(gpu, SHAPE, format, requests, how) for how in (FLOOR, roofline.expected()))
    return low, high


def _with_turn(workload: Workload, turn_tokens: int) -> Workload:
    return Workload(workload.prefix_tokens, turn_tokens, workload.tokens_per_block)


def _range(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}"


if __name__ == "__main__":
    main()
