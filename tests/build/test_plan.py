"""The page of the plan says what the model says now, and the command can be asked about other GPUs and dialogues."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from build import ROOT, plan, roofline
from build.gpu_specs import H200, KNOWN, L4, RTX_3090, GpuSpec
from build.model_size import FORMATS, PHI_3_MINI
from build.page import END
from build.roofline import Workload


def rows(text: str) -> list[dict[str, str]]:
    """The cells of a table by their headings."""
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def row(gpus: Sequence[GpuSpec], gpu: str, weights: str, workload: Workload | None = None) -> dict[str, str]:
    (found,) = [each for each in rows(plan.table(gpus, workload or Workload())) if (each["GPU"], each["weights"]) == (gpu, weights)]
    return found


def test_the_page_is_up_to_date() -> None:
    page = plan.PAGE.read_text(encoding="utf-8")
    assert page.count(plan.PART.begin) == page.count(END) == 1
    assert plan.PART.marked(plan.made(KNOWN, Workload())) in page, "run `python -m build.plan --write`"


def test_the_readme_names_what_was_measured() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    sentence = readme[readme.index("vLLM in a process of its own on an H200") :].split(". ")[0]
    assert {int(tokens): float(ms) for ms, tokens in re.findall(r"(\d+) ms for (\d+) tokens?", sentence)} == roofline.MEASURED.ms_by_tokens
    assert f"prefix of {roofline.MEASURED.workload.prefix_tokens} tokens" in sentence


@pytest.mark.parametrize("gpu", ["L4", "RTX 3090"])
def test_the_readme_expects_what_the_plan_says(gpu: str) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (told,) = re.findall(rf"([\d.]+) ms on an {gpu}", readme[readme.index("How fast it should be") :])
    assert row(KNOWN, gpu, "int4_awq")["codes"].endswith(f" to {told}")


def test_the_page_shows_the_picture() -> None:
    (linked,) = re.findall(r"!\[[^]]*\]\(([^)]*)\)", plan.PAGE.read_text(encoding="utf-8"))
    assert (plan.PAGE.parent / linked).resolve() == plan.PICTURE
    assert imread(plan.PICTURE).shape[:2] == (680, 1100)


def test_there_is_a_row_for_every_gpu_and_format_that_it_can_run() -> None:
    found = [(each["GPU"], each["weights"]) for each in rows(plan.table([L4, RTX_3090], Workload()))]
    assert found == [
        ("L4", "fp16"),
        ("L4", "int4_awq"),
        ("L4", "fp8"),
        ("L4", "w4a8"),
        ("RTX 3090", "fp16"),
        ("RTX 3090", "int4_awq"),
    ]


def test_a_row_says_which_strategies_keep_the_limits() -> None:
    for each in rows(plan.table(KNOWN, Workload())):
        for budget_ms in plan.BUDGETS_MS:
            keep = [s for s in ("codes", "words", "json") if float(each[s].split(" to ")[1]) <= budget_ms]
            assert each[f"in {budget_ms} ms"] == (", ".join(keep) or "-")


def test_floors_stand_before_what_is_expected() -> None:
    for each in rows(plan.table(KNOWN, Workload())):
        for column in ("prefill", "next token", "codes", "words", "json", "codes, cold"):
            low, high = map(float, each[column].split(" to "))
            assert low < high


def test_a_cold_prefix_costs_more_and_a_longer_turn_too() -> None:
    each = row(KNOWN, "L4", "int4_awq")
    assert float(each["codes, cold"].split()[-1]) > float(each["codes"].split()[-1])
    longer = row(KNOWN, "L4", "int4_awq", Workload(turn_tokens=200))
    assert longer["turn"] == "200"
    assert float(longer["codes"].split()[-1]) > float(each["codes"].split()[-1])


def test_what_the_page_concludes_holds() -> None:
    awq = {gpu.name: row(KNOWN, gpu.name, "int4_awq") for gpu in KNOWN}
    servers = [each for name, each in awq.items() if name != H200.name]
    assert all("json" not in each["in 50 ms"] for each in awq.values())
    assert all(each["in 25 ms"] == "codes" and each["in 50 ms"] == "codes, words" for each in servers)
    assert all(float(each["codes, cold"].split()[-1]) > 50 for each in servers)
    assert float(awq["H200"]["codes, cold"].split()[-1]) < 50
    w4a8 = row(KNOWN, "L4", "w4a8")
    assert 1.8 < int(w4a8["turn in 25 ms"]) / int(awq["L4"]["turn in 25 ms"]) < 2
    assert 2.7 < float(awq["L4"]["json"].split()[0]) / 50 < 3
    fp16, int4 = (float(each["codes"].split()[-1]) for each in (row(KNOWN, "RTX 3090", "fp16"), awq["RTX 3090"]))
    assert fp16 == pytest.approx(int4, abs=0.2)


def test_the_comparison_names_measured_and_expected() -> None:
    found = {each["tokens"]: each for each in rows(plan.comparison())}
    assert {tokens: each["measured ms"] for tokens, each in found.items()} == {"1": "6", "18": "59", "50": "159"}
    assert found["50"]["the software's share"].startswith("not used")
    assert float(found["50"]["expected ms"]) == pytest.approx(159, rel=0.02)


def test_a_gpu_of_ones_own_is_another_row(capsys: pytest.CaptureFixture[str]) -> None:
    plan.main(["--gb-per-s", "1008", "--tflops", "165", "--turn-tokens", "100"])
    found = rows(capsys.readouterr().out)
    assert [each["weights"] for each in found if each["GPU"] == "given"] == ["fp16", "int4_awq"]
    assert {each["turn"] for each in found} == {"100"}
    plan.main(["--gb-per-s", "1008", "--tflops", "165", "--fp8-tflops", "330"])
    assert len([each for each in rows(capsys.readouterr().out) if each["GPU"] == "given"]) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gb-per-s", "1008"], "belong together"),
        (["--tflops", "165"], "belong together"),
        (["--fp8-tflops", "330"], "belong together"),
        (["--gb-per-s", "0", "--tflops", "165"], "above zero"),
        (["--gb-per-s", "nan", "--tflops", "165"], "above zero"),
        (["--turn-tokens", "0"], "at least one token"),
        (["--turn-tokens", "4000"], "at most 4096"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        plan.main(arguments)
    assert said in capsys.readouterr().err


def test_the_picture_has_a_panel_for_every_gpu(tmp_path: Path) -> None:
    figure = plan.picture(KNOWN, Workload())
    assert [axes.get_title() for axes in figure.axes] == [gpu.name for gpu in KNOWN]
    turn, ms = np.asarray(figure.axes[1].lines[0].get_xydata(), dtype=float)[20]
    asked = roofline.generation(Workload(turn_tokens=int(turn)), 1)
    assert ms == pytest.approx(roofline.requests_ms(RTX_3090, PHI_3_MINI, FORMATS["int4_awq"], asked, roofline.expected()))
    plan.main(["--picture", str(tmp_path / "plan.png")])
    assert imread(tmp_path / "plan.png").shape[1] == 1100


def test_a_picture_of_five_gpus_has_no_empty_panel(tmp_path: Path) -> None:
    own = GpuSpec("given", 1008e9, 165e12)
    assert [axes.get_title() for axes in plan.picture([*KNOWN, own], Workload()).axes][-1] == "given"
    plan.main(["--gb-per-s", "1008", "--tflops", "165", "--picture", str(tmp_path / "plan.png")])
    assert imread(tmp_path / "plan.png").shape[0] > 680
