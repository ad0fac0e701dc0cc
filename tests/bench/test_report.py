"""The page: one file with everything in it, and the explanations that docs/benchmark.md shows too."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

from build import ROOT
from build.bench.compare import compare
from build.bench.meanings import MEANINGS, markdown
from build.bench.measure import IN_TURN
from build.bench.report import report
from build.bench.verdict import sentences
from tests.bench.made import run_of, said, session_of
from tests.bench.test_findings import waiting

DOCS = ROOT / "docs"


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_with_its_pictures_inside() -> None:
    streamed = run_of(said(1, ms=50, pieces_ms=(20, 30), tokens=18), said(2))
    page = Page(report([session_of(streamed, run_of(said(1)), name="ours")]))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.sources) == 3  # one of all runs, one of each
    for source in page.sources:
        kind, content = source.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(content)


def test_every_figure_is_explained_with_the_settings_that_move_it() -> None:
    page = Page(report([session_of(run_of(said(1)))]))
    for meaning in MEANINGS:
        assert all(part in page.text for part in (meaning.figure, meaning.says, meaning.moved_here, meaning.moved_there))
    assert {"TTFT", "TPOT", "ITL", "Request Latency", "Goodput"} < {meaning.figure for meaning in MEANINGS}


def test_what_is_to_be_said_about_a_run_stands_on_the_page() -> None:
    page = Page(report([session_of(waiting(40, 20.0), count=40)]))
    assert "All 40 requests arrived at once" in page.text
    assert "--request-rate 20" in page.text
    assert page.text.count("Serving Benchmark Result") == 1


def test_a_comparison_stands_first_with_verdict_and_disagreements() -> None:
    a, b = (
        session_of(run_of(said(1, ms=ms), said(2, emotion, ms=ms + 1), name=IN_TURN), name=name)
        for name, ms, emotion in (("theirs", 60.0, "sad"), ("ours", 9.0, "proud"))
    )
    verdict = compare(a, b)
    page = Page(report([a, b], verdict))
    assert [sentence in page.text for sentence in sentences(verdict)] == [True] * len(list(sentences(verdict)))
    assert page.text.index("Verdict") < page.text.index("Serving Benchmark Result")
    assert "Disagreements: 1" in page.text
    assert "row-2" in page.text
    assert len(page.sources) == 5


def test_names_from_elsewhere_cannot_change_the_page() -> None:
    session = session_of(run_of(said(1)))
    page = Page(report([replace(session, about={"name": "<script>alert(1)</script>", "url": "<img src=http://elsewhere/>"})]))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert not any(source.startswith("http") for source in page.sources)


def test_the_documentation_has_the_same_explanations() -> None:
    assert markdown() in (DOCS / "benchmark.md").read_text(encoding="utf-8")


def test_every_setting_of_the_explanations_is_in_the_table_of_settings() -> None:
    table = (DOCS / "coming_from.md").read_text(encoding="utf-8")
    vllm, lmdeploy = table.split("## LMDeploy")
    for meaning in MEANINGS:
        for engine, page in (("vLLM: ", vllm), ("LMDeploy: ", lmdeploy)):
            for part in re.findall(rf"{engine}([^.]*)", meaning.moved_there):
                for setting in re.findall(r"[a-z]+(?:-[a-z]+)+", part):
                    assert f"`--{setting}`" in page, (engine, setting)
