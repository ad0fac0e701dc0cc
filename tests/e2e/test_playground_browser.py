"""The page in a real headless browser: typed into, clicked, looked at.

Opt-in: PIKA_BROWSER names a Chromium, such as /usr/bin/chromium, and requirements/browser.txt is installed.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from build.serve import Server
from tests.support.playground_page import Playground, playground
from tests.support.task_files import changed

BROWSER = os.environ.get("PIKA_BROWSER")
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not BROWSER, reason="PIKA_BROWSER names no Chromium")]

HOSTILE = "<img src=x>"


@pytest.fixture(scope="module")
def site(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    folder = tmp_path_factory.mktemp("playground")
    careful = changed(folder, "careful.toml", "threshold = 0.55", "threshold = 0.9999999")
    hostile = changed(folder, "hostile.toml", 'name = "happy"', f"name = '{HOSTILE}'")
    with playground(server, folder, careful, hostile) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # here: only who opts in has it

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(site: Playground, browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1240, "height": 1000})
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None)
    opened.goto(site.origin)
    opened.wait_for_selector("#status:has-text('marked lines go to')")
    yield opened
    opened.close()
    assert problems == []


def ask(page: Any, child: str, pika: str, before: str = "", beside: str = "none") -> None:
    page.fill("[name=pika_last_message]", before)
    page.fill("[name=user_last_message]", child)
    page.fill("[name=pika_response]", pika)
    page.select_option("#prompt-1", beside)
    page.press("[name=pika_response]", "Control+Enter")
    page.wait_for_selector("#ask:enabled")


def prompt_file(site: Playground, name: str) -> str:
    return str(site.saved_to.with_name(name))


def test_a_dialogue_gets_its_tag_scores_and_tokens(page: Any) -> None:
    ask(page, "Dạ, thủ đô là Hà Nội ạ!", "Chính xác! Con thông minh lắm!")
    assert page.text_content("#status") == ""
    assert page.text_content("article .emotion") in ("thats_right", "proud")
    assert page.text_content("article .celebrate") == "celebrate: yes"
    assert "ms" in page.text_content("article .latency")
    rows = page.locator("article tbody tr")
    assert rows.count() == 14
    widths = {row.locator("th").text_content(): row.locator("i").bounding_box()["width"] for row in rows.all()}
    bar = page.locator("article .bar").first.bounding_box()["width"]
    for row in rows.all():
        shown = float(row.locator("td").last.text_content().removesuffix(" %"))
        assert widths[row.locator("th").text_content()] == pytest.approx(bar * shown / 100, abs=bar / 500)
    chosen = page.locator("tr.chosen th").all_text_contents()
    assert chosen == [page.text_content("article .emotion")]
    turn = page.locator(".turn span")
    assert page.locator("summary").first.text_content() == f"turn: {turn.count()} tokens"
    assert turn.last.text_content() == "<|assistant|>"
    assert page.text_content("article pre").endswith("Pika:chinh xac . con thong minh lam<|end|><|assistant|>")


def test_two_prompts_stand_side_by_side(page: Any, site: Playground) -> None:
    ask(page, "Năm cộng năm bằng mười ạ", "Đúng rồi, giỏi lắm!", before="Năm cộng năm bằng mấy?", beside=prompt_file(site, "careful.toml"))
    assert page.locator("article h2").all_text_contents() == ["as the server is set", prompt_file(site, "careful.toml")]
    assert page.locator("article .celebrate").all_text_contents() == ["celebrate: yes", "celebrate: no"]
    left, right = (article.bounding_box() for article in page.locator("article").all())
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


def test_right_and_wrong_lines_are_kept_with_their_labels(page: Any, site: Playground) -> None:
    ask(page, "Tám ạ", "Đúng rồi! Con nhện có tám chân.", before="Con nhện có mấy chân?")
    answered = page.text_content("article .emotion")
    page.click("article .right")
    page.wait_for_selector("#status:has-text('saved; 1 labelled line in the file')")

    ask(page, "Con vẽ tặng mẹ", "Ôi đẹp quá!")
    page.fill("[name=user_last_message]", "edited after the answer came")
    page.click("article .wrong")
    page.select_option("#labels [name=emotion]", "surprised")
    page.select_option("#labels [name=celebrate]", "yes")
    page.check("#labels input[value=happy]")
    page.click("#labels button")
    page.wait_for_selector("#status:has-text('saved; 2 labelled lines in the file')")
    assert page.is_hidden("#labels")

    assert [json.loads(line) for line in site.saved_to.read_text(encoding="utf-8").splitlines()] == [
        {
            "pika_last_message": "Con nhện có mấy chân?",
            "user_last_message": "Tám ạ",
            "pika_response": "Đúng rồi! Con nhện có tám chân.",
            "emotion": [answered],
            "celebrate": "yes",
        },
        {"user_last_message": "Con vẽ tặng mẹ", "pika_response": "Ôi đẹp quá!", "emotion": ["surprised", "happy"], "celebrate": "yes"},
    ]


def test_what_is_shown_is_text_and_never_code(page: Any, site: Playground) -> None:
    ask(page, HOSTILE, HOSTILE, beside=prompt_file(site, "hostile.toml"))
    assert page.text_content("#status") == ""
    assert page.locator("tbody th").nth(14).text_content() == HOSTILE
    assert f"h = {HOSTILE}: glad" in page.locator("pre").last.text_content()
    assert page.locator("img").count() == 0


def test_a_refused_line_is_explained(page: Any) -> None:
    ask(page, "a", "b " * 400)
    assert page.text_content("#status").startswith("pika_response has")
    assert page.get_attribute("#status", "class") == "failed"
    assert page.locator("article").count() == 0


def test_another_page_in_the_same_browser_cannot_save(site: Playground, browser: Any) -> None:
    kept = site.saved_to.read_bytes() if site.saved_to.exists() else b""
    stranger = browser.new_page()
    stranger.goto("data:text/html,<p>elsewhere</p>")
    tried = stranger.evaluate(
        """async (origin) => {
            const body = JSON.stringify({user_last_message: "x", pika_response: "y", emotion: ["sad"], celebrate: "no"});
            const found = [];
            for (const type of ["application/json", "text/plain"]) {
                for (const mode of ["cors", "no-cors"]) {
                    try {
                        const answer = await fetch(`${origin}/save`, {method: "POST", mode, headers: {"Content-Type": type}, body});
                        found.push(await answer.text());
                    } catch (error) {
                        found.push("refused");
                    }
                }
            }
            return found;
        }""",
        site.origin,
    )
    stranger.close()
    assert len(tried) == 4
    assert all(text in ("refused", "") for text in tried)
    assert (site.saved_to.read_bytes() if site.saved_to.exists() else b"") == kept
