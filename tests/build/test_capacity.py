"""Fleets are the smallest that keep the budget, and the page says what the model says now."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from build import capacity, fleet, roofline
from build.capacity import DATA, PART, PICTURE, cost_table, fleet_row, gpu_table, known, load_table, under_load
from build.errors import SettingError, SourceError
from build.fleet import Talk, Times
from build.fleet_servers import InBatches, OneByOne, batch_ms, measured_ms, on_paper
from build.fleet_size import busiest_minute, smallest
from build.gpu_specs import H200, KNOWN, L4
from build.page import END
from build.roofline import FLOOR, Workload

PAGE = PART.page.read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    assert PAGE.count(PART.begin) == PAGE.count(END) == 1
    for table in (gpu_table(KNOWN), load_table(known()), cost_table(known(), 1.0)):
        assert table in PAGE, "run `python -m build.capacity --write`"
    # Of the fleets the small ones: the large ones take a minute.
    for server in known():
        cells = fleet_row(server, Talk(robots=100))
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {server.name}") and line.split("|")[2].strip() == "100"]
        assert [cell.strip() for cell in row.strip("|").split("|")] == list(cells)


def test_the_page_shows_the_picture() -> None:
    assert f"]({PICTURE.relative_to(PART.page.parent)})" in PAGE
    assert imread(PICTURE).shape[:2] == (360, 1100)


def test_what_the_page_concludes_holds() -> None:
    for server in known():
        alone, half = np.median(server.seconds(1000, np.random.default_rng(1))(0, 1)), under_load(server, 0.5)
        assert np.percentile(half, 99) > 3 * alone
        assert np.median(half) < 2 * alone
    talk = Talk()
    arrived = fleet.arrivals(talk, 0.5, np.random.default_rng(1))
    assert np.count_nonzero(busiest_minute(arrived)) / 60 == pytest.approx(2.5 * talk.requests_per_s, rel=0.1)


def served_by(servers: int) -> Times:
    """Times of 100 requests of which 40 / servers are late."""
    return np.where(np.arange(100) < 40 // servers, 0.06, 0.01)


def test_the_smallest_fleet_is_found() -> None:
    asked: list[int] = []

    def took_by(servers: int) -> Times:
        asked.append(servers)
        return served_by(servers)

    found = smallest(np.linspace(0, 59, 100), took_by)
    assert (found.servers, found.late) == (21, 0.01)
    assert served_by(20).max() == 0.06
    assert len(asked) < 15
    assert found.percentiles_ms[0] == pytest.approx(10)


def test_only_the_busiest_minute_counts() -> None:
    arrived = np.concatenate([np.linspace(0, 59, 10), np.linspace(60, 119, 20), np.linspace(120, 179, 10)])
    assert np.flatnonzero(busiest_minute(arrived)).tolist() == list(range(10, 30))
    late_elsewhere = np.where(busiest_minute(arrived), 0.01, 0.1)
    assert smallest(arrived, lambda servers: late_elsewhere).servers == 1


def test_a_fleet_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingError, match="not even 512 servers keep 50 ms"):
        smallest(np.linspace(0, 59, 100), lambda servers: np.full(100, 0.051))
    with pytest.raises(SettingError, match="nobody says anything"):
        smallest(np.array([]), served_by)


def test_more_robots_need_more_servers_and_slower_ones_too() -> None:
    def servers(times_s: tuple[float, ...], robots: int) -> int:
        return int(fleet_row(OneByOne("x", times_s), Talk(robots=robots))[4])

    assert servers((0.005,), 200) == 1
    assert servers((0.02,), 200) < servers((0.02,), 800)
    assert servers((0.005,), 800) < servers((0.02,), 800)


def test_a_batch_reads_the_weights_once() -> None:
    one, eight = (batch_ms(H200, n, FLOOR) for n in (1, 8))
    assert one < eight < 8 * one + 1e-9
    slow_to_read = batch_ms(L4, 2, FLOOR)
    assert slow_to_read < 2 * batch_ms(L4, 1, FLOOR)
    how = roofline.expected()
    asked = roofline.strategies(Workload())["codes"]
    alone = roofline.requests_ms(L4, roofline.MEASURED.shape, roofline.MEASURED.format, asked, how)
    assert batch_ms(L4, 1, how) == pytest.approx(alone)


def test_a_server_on_paper_takes_what_its_engine_takes() -> None:
    server = on_paper(L4, 8)
    assert server.most == 8
    assert server.seconds(10, np.random.default_rng(1))(3, 2) == pytest.approx(batch_ms(L4, 2, roofline.expected()) / 1000)
    assert InBatches("x", (0.1, 0.1, 0.4)).tags_per_s == pytest.approx(20)
    assert OneByOne("x", (0.1, 0.3)).tags_per_s == pytest.approx(5)


def test_a_million_tags_cost_the_hours_that_they_take() -> None:
    server = OneByOne("x", (0.01,))  # 100 tags a second: a million in 2.78 hours
    assert cost_table((server,), 0.9).splitlines()[-1] == "| x      | 100           | 25.00    | 8.33     | 4.17     |"


def test_times_are_read_from_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"predictions": [{"latency_ms": 4.0}, {"latency_ms": None}, {"latency_ms": 6.0}]}), encoding="utf-8")
    assert measured_ms(report) == [4.0, 6.0]
    assert capacity.main(["--measured", str(report), "--robots", "50", "--price-per-hour", "2"]) == 0
    assert capsys.readouterr().out.count("| measured") == 2


@pytest.mark.parametrize("content", ["", "[]", '{"predictions": [{}]}', '{"predictions": []}', '{"predictions": [{"latency_ms": 0}]}'])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    report.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=r"report\.json"):
        measured_ms(report)
    assert capacity.main(["--measured", str(report)]) == 1
    assert "report.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--robots", "0"], ["--talking", "1.5"], ["--gap-s", "inf"], ["--price-per-hour", "-1"], ["--service-ms", "nan"]]
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        capacity.main(arguments)


def test_robots_of_ones_own_are_another_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--robots", "200", "--talking", "0.4", "--gap-s", "10", "--together", "0.2", "--service-ms", "12"]) == 0
    out = capsys.readouterr().out
    (row,) = [line for line in out.splitlines() if line.startswith("| given") and "| 200 " in line]
    assert float(row.split("|")[3]) == pytest.approx(200 * 0.4 / 10, rel=0.15)
    assert capacity.main(["--gap-s", "2"]) == 1


def test_the_kept_times_are_of_the_evaluation() -> None:
    times_ms = json.loads(DATA.read_text(encoding="utf-8"))
    assert len(times_ms) == 390
    assert 1 < min(times_ms) <= np.median(times_ms) < 50
