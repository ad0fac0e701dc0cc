"""pika-tag for single lines, for standard input, and what all its commands share."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pika_tagger
from pika_tagger.cli import main
from tests.support.fake_triton import FakeTriton, free_port, reply_with

CHILD = "Tớ tên là Nguyễn Văn An"
PIKA = "Chào An, tên cậu đẹp lắm!"


@pytest.fixture(autouse=True)
def _no_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIKA_TAGGER_URL", raising=False)


def give(monkeypatch: pytest.MonkeyPatch, *lines: str | bytes) -> None:
    """Put `lines` on standard input."""
    content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def dialogue(**fields: object) -> str:
    return json.dumps({"user_last_message": CHILD, "pika_response": PIKA} | fields, ensure_ascii=False)


def test_two_lines_are_tagged_without_naming_a_command(server: FakeTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([CHILD, PIKA, "--url", server.url]) == 0
    assert server.requests[-1].texts == {"user_last_message": CHILD, "pika_response": PIKA}
    shown = capsys.readouterr().out
    assert shown.startswith("proud   celebrate: yes   confidence 0.88   ")
    assert shown.endswith(" ms with connecting\n")


def test_json_prints_what_robots_exchange(server: FakeTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", server.url, "--json", CHILD, PIKA]) == 0
    assert capsys.readouterr().out == '{"emotion_name": "proud", "celebrate": "yes"}\n'


def test_before_is_what_pika_had_said(server: FakeTriton) -> None:
    assert main([CHILD, PIKA, "--before", "Cậu tên gì?", "--url", server.url]) == 0
    assert server.requests[-1].texts["pika_last_message"] == "Cậu tên gì?"


def test_a_strategy_is_sent_with_the_lines(server: FakeTriton) -> None:
    assert main([CHILD, PIKA, "--strategy", "words", "--url", server.url]) == 0
    assert server.requests[-1].texts["strategy"] == "words"
    assert main([CHILD, PIKA, "--url", server.url]) == 0
    assert "strategy" not in server.requests[-1].texts


def test_a_command_may_follow_the_strategy(server: FakeTriton) -> None:
    assert main(["--strategy", "json", "tag", CHILD, PIKA, "--url", server.url]) == 0
    assert server.requests[-1].texts == {"user_last_message": CHILD, "pika_response": PIKA, "strategy": "json"}


def test_a_line_that_is_also_the_name_of_a_command_is_tagged_after_tag(server: FakeTriton) -> None:
    assert main(["tag", "health", "eval", "--url", server.url]) == 0
    assert server.requests[-1].texts == {"user_last_message": "health", "pika_response": "eval"}


def test_a_command_may_follow_the_url(server: FakeTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", server.url, "health"]) == 0
    assert capsys.readouterr().out.startswith(f"{server.url} answers: a tag in ")


def test_the_value_of_before_is_no_command(server: FakeTriton) -> None:
    assert main(["--before", "health", CHILD, PIKA, "--url", server.url]) == 0
    assert server.requests[-1].texts["pika_last_message"] == "health"


def test_lines_after_two_dashes_may_start_with_a_dash(server: FakeTriton) -> None:
    assert main(["--url", server.url, "--", "-5", "--json"]) == 0
    assert server.requests[-1].texts == {"user_last_message": "-5", "pika_response": "--json"}


def test_the_url_is_taken_from_the_environment(server: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIKA_TAGGER_URL", server.url)
    assert main(["health"]) == 0


def test_the_flag_goes_before_the_environment(server: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIKA_TAGGER_URL", f"127.0.0.1:{free_port()}")
    assert main(["health", "--url", server.url]) == 0


def test_an_empty_variable_is_no_url(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PIKA_TAGGER_URL", "")
    with pytest.raises(SystemExit):
        main(["--help"])
    with pytest.raises(SystemExit):
        main(["health", "--help"])
    assert "now localhost:8001" in capsys.readouterr().out


def test_health_in_json(server: FakeTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--json", "--url", server.url]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["url"], answer["healthy"]) == (server.url, True)
    assert answer["latency_ms"] > 0


@pytest.mark.parametrize("command", [["health"], [CHILD, PIKA]])
def test_a_server_that_is_not_there_is_one_line_and_status_1(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--url", f"127.0.0.1:{free_port()}"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("pika-tag: ")
    assert shown.err.count("\n") == 1
    assert "start the server" in shown.err


@pytest.mark.parametrize("command", [["only one"], ["one", "two", "three"], ["--before", "x"], ["health", "--url", "http://gpu-box:8000"]])
def test_wrong_usage_is_one_line_and_status_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_refused_dialogue_is_bad_input(server: FakeTriton, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail_with("INVALID_ARGUMENT", "pika_response: must not be blank")
    assert main([CHILD, "", "--url", server.url]) == 2
    assert "must not be blank" in capsys.readouterr().err


def test_nothing_on_a_terminal_is_a_hint_and_not_a_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    give(monkeypatch)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main([]) == 2
    assert "pika-tag --help" in capsys.readouterr().err


def test_standard_input_is_answered_line_by_line(
    server: FakeTriton, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda request: reply_with("sad" if "pika_last_message" in request.texts else "happy")
    give(monkeypatch, dialogue(), "", dialogue(pika_last_message="Cậu tên gì?"), dialogue(pika_last_message=None))
    assert main(["--url", server.url]) == 0
    assert [json.loads(line)["emotion_name"] for line in capsys.readouterr().out.splitlines()] == ["happy", "sad", "happy"]
    assert server.requests[0].texts["user_last_message"] == CHILD


def test_a_strategy_holds_for_all_of_standard_input(server: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, dialogue(), dialogue())
    assert main(["--url", server.url, "--strategy", "json"]) == 0
    assert [request.texts["strategy"] for request in server.requests] == ["json", "json"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON (at column 2)"),
        (f'{{"user_last_message": "{CHILD}}}', "not JSON (at column 23)"),
        ("[]", "not a JSON object"),
        (b'{"user_last_message": "\xff"}', "not UTF-8"),
        (json.dumps({"pika_response": PIKA}), "user_last_message is missing"),
        (json.dumps({"user_last_message": CHILD}), "pika_response is missing"),
        (dialogue(user_last_message=[CHILD]), "user_last_message is not a string"),
        (dialogue(pika_response=" "), "pika_response is blank"),
        (dialogue(pika_last_message=5), "pika_last_message is not a string"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_others_are_tagged(
    server: FakeTriton, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: str | bytes, reason: str
) -> None:
    give(monkeypatch, dialogue(), bad, dialogue())
    assert main(["--url", server.url]) == 2
    shown = capsys.readouterr()
    first, second, third = shown.out.splitlines()
    assert (first, second) == (third, "null")
    assert shown.err.startswith(f"pika-tag: line 2: {reason}")
    assert "Nguy" not in shown.err


def test_a_failed_request_is_reported_with_its_line_and_the_others_are_tagged(
    server: FakeTriton, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fail_with("INTERNAL", f"cannot tag {CHILD}", times=1)
    give(monkeypatch, dialogue(), dialogue())
    assert main(["--url", server.url]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["null", '{"emotion_name": "proud", "celebrate": "yes"}']
    assert shown.err.startswith("pika-tag: line 1: ")
    assert "Nguy" not in shown.err


def test_a_file_from_an_editor_that_marks_its_byte_order_is_read(server: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"\xef\xbb\xbf" + dialogue().encode())
    assert main(["--url", server.url]) == 0


def test_ctrl_c_is_status_130_without_a_traceback(
    server: FakeTriton, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pika_tagger.TaggerClient, "tag", interrupt)
    assert main([CHILD, PIKA, "--url", server.url]) == 130
    assert capsys.readouterr().err == "pika-tag: interrupted\n"


@pytest.mark.parametrize("command", [[], ["tag"], ["eval"], ["health"]])
def test_help_documents_settings_and_exit_status(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "PIKA_TAGGER_URL" in shown
    assert "1    a request failed, or a limit was missed" in shown


def test_version_is_that_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pika-tag {pika_tagger.__version__}\n"


def test_a_reader_that_leaves_early_causes_no_traceback(server: FakeTriton) -> None:
    script = f"{sys.executable} -m pika_tagger.cli --url {server.url} | head -n 1"
    environment = os.environ | {"PYTHONPATH": str(Path(pika_tagger.__file__).parent.parent)}
    lines = (dialogue() + "\n") * 200
    shown = subprocess.run(["bash", "-c", script], input=lines, capture_output=True, text=True, check=False, env=environment)
    assert shown.stdout == '{"emotion_name": "proud", "celebrate": "yes"}\n'
    assert shown.stderr == ""


def test_a_terminal_without_utf_8_and_an_argument_that_is_none_are_survived(server: FakeTriton) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(pika_tagger.__file__).parent.parent), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable.encode(), b"-m", b"pika_tagger.cli", b"--url", server.url.encode(), b"\xff\xfe", PIKA.encode()]
    shown = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert server.requests[-1].texts["user_last_message"] == "??"
