import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pika_tagger import ClientClosedError, Dialogue, InvalidRequestError, InvalidSettingError, TaggerClient, TaggerTimeoutError
from tests.client.fake_server import FakeServer
from tests.client.twins import Make
from tests.support.fake_triton import LABELS, FakeTriton, Reply, Request, free_port, reply_with


def test_a_tag_has_the_values_that_the_server_sent(server: FakeTriton, tagger: TaggerClient) -> None:
    tag = tagger.tag(user_last_message="2+2=4", pika_response="Chính xác!")
    assert (tag.emotion_name, tag.celebrate) == ("proud", True)
    assert tag.celebrate_score == 0.875
    assert tag.confidence == pytest.approx(0.88)
    assert list(tag.emotion_scores) == list(LABELS)
    assert list(tag.emotion_scores.values()) == pytest.approx(Reply().emotion_scores)
    assert tag.latency_ms > 0


def test_celebrate_is_false_for_no(server: FakeTriton, tagger: TaggerClient) -> None:
    server.reply = lambda request: reply_with("sad", "no")
    tag = tagger.tag(user_last_message="Con mèo mất rồi", pika_response="Ôi...")
    assert (tag.emotion_name, tag.celebrate) == ("sad", False)


def test_text_arrives_as_it_was_said(server: FakeTriton, tagger: TaggerClient) -> None:
    said: Dialogue = {
        "user_last_message": "Dạ, con voi ăn cỏ ạ. 🐘\n",
        "pika_response": "Đúng rồi, con giỏi lắm!",
        "pika_last_message": "Voi ăn gì?\0",
    }
    tagger.tag(**said)
    assert server.requests[-1].texts == said


def test_every_input_is_a_batch_of_one_string(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.tag(user_last_message="a", pika_response="b", pika_last_message="c")
    assert set(server.requests[-1].shapes.values()) == {(1, 1)}
    assert set(server.requests[-1].datatypes.values()) == {"BYTES"}


def test_what_pika_said_before_is_left_out_when_unknown(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.tag(user_last_message="a", pika_response="b")
    assert set(server.requests[-1].texts) == {"user_last_message", "pika_response"}


def test_an_empty_text_is_sent_as_an_empty_text(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.tag(user_last_message="", pika_response="b", pika_last_message="")
    assert server.requests[-1].texts == {"user_last_message": "", "pika_response": "b", "pika_last_message": ""}


def test_a_lone_surrogate_is_sent_as_a_question_mark(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.tag(user_last_message="con \ud83d mèo", pika_response="b")
    assert server.requests[-1].texts["user_last_message"] == "con ? mèo"


@pytest.mark.parametrize("wrong", [None, 7, b"bytes"])
def test_a_text_of_another_type_is_refused_before_it_is_sent(server: FakeTriton, tagger: TaggerClient, wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"pika_response is of type {type(wrong).__name__}: give a str"):
        tagger.tag(user_last_message="a", pika_response=wrong)  # type: ignore[call-overload]
    assert server.requests == []


@pytest.mark.parametrize("strategy", ["codes", "words", "json", "one of tomorrow"])
def test_a_strategy_is_sent_as_it_was_given(server: FakeTriton, tagger: TaggerClient, strategy: str) -> None:
    tagger.tag(user_last_message="a", pika_response="b", strategy=strategy)
    assert server.requests[-1].texts == {"user_last_message": "a", "pika_response": "b", "strategy": strategy}
    assert server.requests[-1].shapes["strategy"] == (1, 1)
    assert server.requests[-1].datatypes["strategy"] == "BYTES"


def test_no_strategy_is_sent_unless_one_is_given(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.tag(user_last_message="a", pika_response="b")
    tagger.tag(user_last_message="a", pika_response="b", strategy=None)
    tagger.health()
    assert all("strategy" not in request.texts for request in server.requests)


@pytest.mark.parametrize("wrong", [7, b"codes", ("codes",)])
def test_a_strategy_of_another_type_is_refused_before_it_is_sent(server: FakeTriton, tagger: TaggerClient, wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"strategy is of type {type(wrong).__name__}: give a str, or None"):
        tagger.tag(user_last_message="a", pika_response="b", strategy=wrong)  # type: ignore[call-overload]
    assert server.requests == []


def test_labels_come_from_the_model_configuration_and_are_asked_for_once(server: FakeTriton, tagger: TaggerClient) -> None:
    for _ in range(3):
        assert tuple(tagger.tag(user_last_message="a", pika_response="b").emotion_scores) == LABELS
    assert server.config_requests == 1


def test_spaces_around_labels_do_not_matter(server: FakeTriton, tagger: TaggerClient) -> None:
    server.labels = ("happy", " sad ")
    assert tagger.server_info().labels == ("happy", "sad")


def test_a_server_restarted_with_other_labels_is_understood(server: FakeTriton, tagger: TaggerClient) -> None:
    tagger.tag(user_last_message="a", pika_response="b")
    server.labels = ("yay", "nay")
    server.reply = lambda request: Reply("nay", "no", (0.25, 0.75), 0.125)
    assert dict(tagger.tag(user_last_message="a", pika_response="b").emotion_scores) == {"yay": 0.25, "nay": 0.75}


def test_another_model_can_be_asked(make: Make, server: FakeTriton) -> None:
    server.model_name = "tagger_candidate"
    with make(server.url, model_name="tagger_candidate") as tagger:
        assert tagger.tag(user_last_message="a", pika_response="b").emotion_name == "proud"


def test_health_is_a_real_tag(server: FakeTriton, tagger: TaggerClient) -> None:
    assert tagger.health().emotion_name == "proud"
    assert set(server.requests[-1].texts) == {"user_last_message", "pika_response"}


def test_threads_share_a_client_and_each_gets_its_own_answer(server: FakeTriton, tagger: TaggerClient) -> None:
    def reply(request: Request) -> Reply:
        return reply_with(LABELS[int(request.texts["user_last_message"]) % len(LABELS)])

    def twenty_tags(thread: int) -> list[bool]:
        start.wait()
        numbers = range(thread * 20, thread * 20 + 20)
        tags = [(number, tagger.tag(user_last_message=str(number), pika_response="b")) for number in numbers]
        return [tag.emotion_name == LABELS[number % len(LABELS)] and tag.confidence == 0.75 for number, tag in tags]

    server.reply = reply
    start = threading.Barrier(20)
    with ThreadPoolExecutor(20) as pool:
        right = [answer for answers in pool.map(twenty_tags, range(20)) for answer in answers]
    assert right == [True] * 400


def test_a_closed_client_says_so(make: Make, server: FakeTriton) -> None:
    with make(server.url) as tagger:
        tagger.health()
        tagger.close()
        tagger.close()
        with pytest.raises(ClientClosedError, match=r"make a new \w*TaggerClient"):
            tagger.tag(user_last_message="a", pika_response="b")


def test_closing_ends_calls_of_other_threads(server: FakeTriton, tagger: TaggerClient) -> None:
    assert tagger.server_info().labels
    server.delay_s = 60
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(tagger.health)
        while not server.requests:
            time.sleep(0.01)
        tagger.close()
        with pytest.raises(ClientClosedError):
            call.result()


def test_a_client_can_be_made_before_its_server(make: Make, server: FakeTriton) -> None:
    make(f"127.0.0.1:{free_port()}").close()


def test_a_client_connects_again_to_a_restarted_server(make: Make) -> None:
    with FakeServer() as first:
        port = first.port
        tagger = make(first.url, timeout_s=5.0)
        tagger.health()
    with tagger, FakeServer(port):
        assert tagger.wait_until_ready(10).emotion_name == "proud"


@pytest.mark.parametrize("url", ["", "gpu-box", "http://gpu-box:8000", "gpu-box:8001/v2", ":8001", "gpu box:8001", "gpu-box:port"])
def test_a_url_that_cannot_work_is_refused_at_once(make: Make, url: str) -> None:
    with pytest.raises(InvalidSettingError, match=r"give HOST:PORT .* for example localhost:8001"):
        make(url)


@pytest.mark.parametrize("url", ["localhost:8001", "192.168.1.5:8001", "[::1]:8001", "dns:///tagger.pika.svc:8001"])
def test_usual_forms_of_urls_are_taken(make: Make, url: str) -> None:
    make(url).close()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "1"])
def test_a_timeout_that_cannot_work_is_refused_at_once(make: Make, timeout_s: float) -> None:
    with pytest.raises(InvalidSettingError, match=r"timeout_s is .* give a number of seconds, above 0"):
        make(timeout_s=timeout_s)


def test_a_client_shows_its_settings(make: Make) -> None:
    with make("gpu-box:8001", timeout_s=0.5) as tagger:
        assert repr(tagger).endswith("TaggerClient('gpu-box:8001', budget_ms=inf, timeout_s=0.5, model_name='tagger')")


def test_waiting_ends_when_a_late_server_answers(make: Make) -> None:
    port = free_port()
    late = FakeServer(port)
    timer = threading.Timer(0.4, late.__enter__)
    with make(f"127.0.0.1:{port}") as tagger:
        timer.start()
        assert tagger.wait_until_ready(20).emotion_name == "proud"
    late.__exit__(None, None, None)


def test_waiting_outlasts_a_server_that_is_up_but_fails_at_first(server: FakeTriton, tagger: TaggerClient) -> None:
    server.fail_with("INTERNAL", "Stub process 'tagger_0_0' is not healthy.", times=2)
    assert tagger.wait_until_ready(20).emotion_name == "proud"
    assert len(server.requests) == 3


def test_waiting_in_vain_names_the_last_error(server: FakeTriton, tagger: TaggerClient) -> None:
    assert tagger.server_info().labels
    server.fail_with("INTERNAL", "Stub process 'tagger_0_0' is not healthy.")
    with pytest.raises(TaggerTimeoutError, match=r"not ready after 0\.5 s; .* Stub process 'tagger_0_0' is not healthy") as caught:
        tagger.wait_until_ready(0.5)
    assert caught.value.status == "INTERNAL"


def test_waiting_for_a_server_that_hangs_ends_in_time(server: FakeTriton, tagger: TaggerClient) -> None:
    assert tagger.server_info().labels
    server.delay_s = 60
    with pytest.raises(TaggerTimeoutError, match=r"not ready after 0\.5 s; the last attempt: no answer .* within 0\.5 s"):
        tagger.wait_until_ready(0.5)


def test_waiting_ends_at_once_when_the_line_itself_is_refused(server: FakeTriton, tagger: TaggerClient) -> None:
    server.fail_with("INVALID_ARGUMENT", "pika_response: longer than 3 characters")
    with pytest.raises(InvalidRequestError):
        tagger.wait_until_ready(20)
    assert len(server.requests) == 1
