"""pika-tag bench: what is asked, and that the figures are those of what came back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pika_tagger._bench import Run, table
from pika_tagger._load import Load, Sample, asking, closed_loop, poisson
from pika_tagger._server_split import Split
from pika_tagger.cli import main
from tests.client.evaluation import CHILD, PIKA
from tests.client.fake_server import FakeServer
from tests.client.test_many import Crowd, dialogues
from tests.client.twins import TWINS
from tests.support.fake_triton import Reply, Request


class Bench:
    """One run of the command."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.file, self.out, self._url, self._capsys = folder, folder / "said.jsonl", folder / "bench.json", url, capsys
        rows = [{"user_last_message": f"{CHILD} {number}", "pika_response": PIKA} for number in range(7)]
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def run(self, *flags: str) -> tuple[int, str, str]:
        status = main(["bench", str(self.file), "--url", self._url, "--json", str(self.out), "--requests", "20", *flags])
        shown = self._capsys.readouterr()
        return status, shown.out, shown.err

    @property
    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out.read_text(encoding="utf-8"))["runs"]
        return found


@pytest.fixture
def bench(tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, server.url, capsys)


def made_of(*latencies_ms: float, failed: int = 0, seconds: float = 2.0) -> Run:
    samples = [*(Sample(each, None) for each in latencies_ms), *[Sample(1.0, "busy")] * failed]
    return Run("made", Load(tuple(samples), seconds), {})


def test_every_run_asks_as_often_as_told_and_takes_turns_through_the_file(bench: Bench, server: FakeServer) -> None:
    status, shown, complaints = bench.run("--concurrency", "1", "3", "--rate", "500")
    assert status == 0
    assert [(run["name"], run["requests"], run["failures"]) for run in bench.runs] == [
        ("1 at a time", 20, {}),
        ("3 at a time", 20, {}),
        ("500/s", 20, {}),
    ]
    asked = [request.texts["user_last_message"] for request in server.requests]
    assert len(asked) == 10 + 3 * 20  # ten to warm up
    assert len(set(asked)) == 7
    assert all(name in shown for name in ("p50", "p90", "p95", "p99", "max", "<=25 ms", "<=50 ms", "3 at a time", "500/s"))
    assert CHILD not in shown + complaints + bench.out.read_text(encoding="utf-8")


def test_figures_are_counted_by_hand() -> None:
    run = made_of(*range(1, 101), failed=25)
    assert run.json()["latency_ms"] == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert run.goodput(25) == (25 / 2.0, 25 / 125)
    assert run.goodput(50) == (50 / 2.0, 50 / 125)
    assert run.failures == {"busy": 25}
    lines = list(table([run]))
    assert lines[1].split() == ["made", "125", "50.0", "50.0", "90.0", "95.0", "99.0", "100.0", "20.0%", "40.0%"]
    assert lines[2] == "  failed: 25 busy"


def test_a_run_without_any_tag_has_no_latencies() -> None:
    run = made_of(failed=3)
    assert (run.json()["latency_ms"], run.goodput(50)) == ({}, (0.0, 0.0))
    assert list(table([run]))[1].split()[:4] == ["made", "3", "0.0", "-"]


def test_as_many_callers_ask_at_once_as_told(server: FakeServer) -> None:
    crowd = Crowd(3)
    server.reply = crowd.reply
    with TWINS["blocking"](server.url, timeout_s=60) as tagger:
        load = closed_loop(asking(tagger, dialogues(5)), 3, 12, lambda: None)
    assert (len(load.samples), crowd.most) == (12, 3)


def test_arrivals_do_not_wait_for_answers_and_count_from_when_they_were_due(server: FakeServer) -> None:
    crowd = Crowd(20)  # answers nobody before all twenty are there
    server.reply = crowd.reply
    with TWINS["blocking"](server.url, timeout_s=60) as tagger:
        load = poisson(asking(tagger, dialogues(20)), 200.0, 20, seed=1)
    assert crowd.most == 20
    ordered = [sample.latency_ms for sample in load.samples]
    assert ordered[0] > ordered[-1] > 0  # all were answered at once, and the first had been due first


def test_the_seed_decides_when_lines_arrive(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pika_tagger._load.time.sleep", pauses.append)
    monkeypatch.setattr("pika_tagger._load.time.monotonic", lambda: 0.0)
    with TWINS["blocking"](server.url, timeout_s=60) as tagger:
        for seed in (1, 1, 2):
            poisson(asking(tagger, dialogues(5)), 10.0, 400, seed)
    first, again, other = pauses[:400], pauses[400:800], pauses[800:]
    assert first == again != other
    assert first == sorted(first)
    assert 400 / first[-1] == pytest.approx(10, rel=0.2)


def test_what_triton_says_is_the_difference_over_the_run(bench: Bench, server: FakeServer) -> None:
    def reply(request: Request) -> Reply:
        for name, ms in (("queue", 1), ("compute_input", 2), ("compute_infer", 3), ("compute_output", 4), ("success", 10)):
            count, ns = server.statistics.get(name, (1000, 10**12))
            server.statistics[name] = (count + 1, ns + ms * 1_000_000)
        return Reply()

    server.reply = reply
    assert bench.run()[0] == 0
    assert bench.runs[0]["server"] == {
        "tagger": {"requests": 20, "queue_ms": 1.0, "compute_input_ms": 2.0, "compute_infer_ms": 3.0, "compute_output_ms": 4.0}
    }


def test_a_server_that_was_restarted_meanwhile_says_nothing() -> None:
    phases = dict.fromkeys(("queue", "compute_input", "compute_infer", "compute_output"), 5)
    assert Split(3, phases).since(Split(900, phases)) is None


def test_failures_are_counted_and_make_the_status_1(bench: Bench, server: FakeServer) -> None:
    server.reply = lambda request: Reply(celebrate="perhaps") if request.texts["user_last_message"].endswith("6") else Reply()
    status, shown, complaints = bench.run()
    assert (status, bench.runs[0]["failures"]) == (1, {"failed": 2})
    assert "failed: 2 failed" in shown
    assert "2 of 20 requests failed" in complaints


@pytest.mark.parametrize(("limit_ms", "status"), [("0", 1), ("60000", 0)])
def test_a_limit_that_is_missed_is_status_1(bench: Bench, limit_ms: str, status: int) -> None:
    given, _, complaints = bench.run("--max-p95-ms", limit_ms)
    assert given == status
    assert ("is above the wanted 0" in complaints) == bool(status)


def test_the_report_says_who_was_asked_and_how(bench: Bench, server: FakeServer) -> None:
    bench.run("--rate", "900", "--seed", "5")
    report = json.loads(bench.out.read_text(encoding="utf-8"))
    assert report["server"]["triton_version"] == "2.51.0"
    assert report["server"]["prompt_schema"] == "pika_mood/1"
    assert (report["settings"]["rate"], report["settings"]["seed"], report["settings"]["url"]) == ([900.0], 5, server.url)


def test_a_picture_is_drawn(bench: Bench) -> None:
    assert bench.run("--pictures", str(bench.folder / "pictures"))[0] == 0
    assert (bench.folder / "pictures" / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_of_the_picture_ends_at_the_share_that_was_answered() -> None:
    from pika_tagger._bench_picture import picture

    (axes,) = picture([made_of(10, 20, 30, failed=1)]).axes
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.25, 0.5, 0.75]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [10, 20, 30]


@pytest.mark.parametrize("flags", [("--requests", "0"), ("--concurrency", "0"), ("--rate", "0"), ("--rate", "inf"), ("--max-p95-ms", "-1")])
def test_a_number_that_cannot_work_is_wrong_usage(bench: Bench, flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.run(*flags)
    assert ended.value.code == 2


def test_a_bad_file_and_a_bad_place_for_results_are_found_before_anything_is_asked(bench: Bench, server: FakeServer) -> None:
    assert bench.run("--json", str(bench.file))[0] == 2
    assert bench.run("--json", str(bench.folder / "none" / "out.json"))[0] == 2
    bench.file.write_text("{}\n", encoding="utf-8")
    assert bench.run()[0] == 2
    assert server.requests == []
