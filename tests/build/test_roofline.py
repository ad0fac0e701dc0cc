"""The roofline model against figures that were calculated by hand or measured, and against what it must not do."""

from dataclasses import replace

import pytest

from build.gpu_specs import A10G, H200, KNOWN, L4, RTX_3090, GpuSpec
from build.model_size import FORMATS, PHI_3_MINI
from build.roofline import (
    ASSUMED,
    FLOOR,
    JSON_TOKENS,
    MEASURED,
    POSITIONS,
    Efficiency,
    Pass,
    Workload,
    expected,
    generation,
    longest_turn,
    pass_ms,
    requests_ms,
    strategies,
    supports,
)

AWQ = FORMATS["int4_awq"]


def floor_ms(gpu: GpuSpec, new_tokens: int, cached_tokens: int = 0, format: str = "int4_awq") -> float:
    return pass_ms(gpu, PHI_3_MINI, FORMATS[format], Pass(new_tokens, cached_tokens), FLOOR)


@pytest.mark.parametrize(("gpu", "ms"), [(L4, 7.0), (RTX_3090, 2.26), (A10G, 3.5), (H200, 0.44)])
def test_a_token_costs_at_least_what_reading_the_weights_takes(gpu: GpuSpec, ms: float) -> None:
    assert floor_ms(gpu, 1) == pytest.approx(ms, rel=0.02)


def test_a_batch_reads_the_weights_once_and_each_request_s_cache() -> None:
    one, eight = (pass_ms(L4, PHI_3_MINI, AWQ, Pass(1, 500), FLOOR, batch) for batch in (1, 8))
    cache_ms = 1000 * 500 * PHI_3_MINI.kv_bytes_per_token / L4.bytes_per_s
    assert eight - one == pytest.approx(7 * cache_ms)
    assert eight < 2 * one


def test_a_batch_calculates_for_each_request() -> None:
    one, four = (pass_ms(L4, PHI_3_MINI, AWQ, Pass(500, 0), FLOOR, batch) for batch in (1, 4))
    assert four == pytest.approx(4 * one)


@pytest.mark.parametrize(("gpu", "ms"), [(L4, 12.0), (RTX_3090, 20.5), (A10G, 20.8), (H200, 1.5)])
def test_a_long_pass_costs_at_least_what_calculating_takes(gpu: GpuSpec, ms: float) -> None:
    assert floor_ms(gpu, 200) == pytest.approx(ms, rel=0.04)


def test_the_cache_is_read_as_well() -> None:
    with_cache, without = floor_ms(L4, 1, cached_tokens=1000), floor_ms(L4, 1)
    assert with_cache - without == pytest.approx(1000 * 384 * 1024 / 300e9 * 1000)


def test_attention_is_calculated_over_what_came_before() -> None:
    with_cache, without = floor_ms(RTX_3090, 512, cached_tokens=512), floor_ms(RTX_3090, 512)
    assert with_cache - without == pytest.approx(4 * 32 * 3072 * 512 * 512 / 71e12 * 1000)


def test_formats_differ_in_what_they_read_and_how_they_calculate() -> None:
    assert floor_ms(L4, 1, format="fp16") > floor_ms(L4, 1, format="fp8") > floor_ms(L4, 1) > floor_ms(L4, 1, format="w4a8")
    assert floor_ms(L4, 500, format="fp16") == floor_ms(L4, 500)
    assert floor_ms(L4, 500, format="fp8") == floor_ms(L4, 500, format="w4a8") < 0.6 * floor_ms(L4, 500)


def test_only_gpus_with_fp8_run_fp8_formats() -> None:
    assert {gpu.name: [name for name, each in FORMATS.items() if supports(gpu, each)] for gpu in KNOWN} == {
        "L4": ["fp16", "int4_awq", "fp8", "w4a8"],
        "RTX 3090": ["fp16", "int4_awq"],
        "A10G": ["fp16", "int4_awq"],
        "H200": ["fp16", "int4_awq", "fp8", "w4a8"],
    }


def test_efficiency_stretches_the_slower_side_and_software_comes_on_top() -> None:
    half = Efficiency(bandwidth=0.5, compute=1.0, pass_ms=3.0, request_ms=5.0)
    assert pass_ms(L4, PHI_3_MINI, AWQ, Pass(1, 0), half) == pytest.approx(2 * floor_ms(L4, 1) + 3.0)
    two = ((Pass(1, 0), Pass(1, 0)), (Pass(1, 0),))
    assert requests_ms(L4, PHI_3_MINI, AWQ, two, half) == pytest.approx(6 * floor_ms(L4, 1) + 3 * 3.0 + 2 * 5.0)


def test_what_the_strategies_ask_of_the_engine() -> None:
    asked = strategies(Workload(prefix_tokens=512, turn_tokens=40, tokens_per_block=32))
    assert asked["codes"] == ((Pass(40, 512),),)
    assert asked["words"] == ((Pass(45, 512),), (Pass(31 + 8, 512 + 45 - 31),))
    assert len(asked["json"]) == 1
    assert asked["json"][0][:3] == (Pass(40, 512), Pass(1, 552), Pass(1, 553))
    assert len(asked["json"][0]) == JSON_TOKENS


def test_the_softwares_share_reproduces_what_it_was_calculated_from() -> None:
    software = expected()
    assert (software.bandwidth, software.compute) == (ASSUMED.bandwidth, ASSUMED.compute)
    assert software.pass_ms > 0
    assert software.request_ms > 0
    for tokens in (1, JSON_TOKENS):
        ms = requests_ms(MEASURED.gpu, PHI_3_MINI, AWQ, generation(MEASURED.workload, tokens), software)
        assert ms == pytest.approx(MEASURED.ms_by_tokens[tokens])


def test_it_predicts_the_figure_that_it_was_not_calculated_from() -> None:
    ms = requests_ms(MEASURED.gpu, PHI_3_MINI, AWQ, generation(MEASURED.workload, 50), expected())
    assert ms == pytest.approx(MEASURED.ms_by_tokens[50], rel=0.02)


def test_nothing_that_was_measured_is_below_the_floor() -> None:
    for tokens, ms in MEASURED.ms_by_tokens.items():
        assert requests_ms(MEASURED.gpu, PHI_3_MINI, AWQ, generation(MEASURED.workload, tokens), FLOOR) < ms


@pytest.mark.parametrize("budget_ms", [25, 50])
@pytest.mark.parametrize("gpu", KNOWN, ids=lambda gpu: gpu.name)
def test_the_longest_turn_keeps_the_budget_and_one_token_more_does_not(gpu: GpuSpec, budget_ms: float) -> None:
    turn = longest_turn(gpu, PHI_3_MINI, AWQ, Workload(), budget_ms, expected())

    def ms(turn_tokens: int) -> float:
        return requests_ms(gpu, PHI_3_MINI, AWQ, generation(replace(Workload(), turn_tokens=turn_tokens), 1), expected())

    assert 0 < turn < POSITIONS - Workload().prefix_tokens
    assert ms(turn) <= budget_ms < ms(turn + 1)


def test_no_turn_is_longer_than_the_model_can_read() -> None:
    assert longest_turn(H200, PHI_3_MINI, AWQ, Workload(), 1e6, FLOOR) == POSITIONS - Workload().prefix_tokens
    assert longest_turn(L4, PHI_3_MINI, FORMATS["fp16"], Workload(), 10, FLOOR) == 0
