"""Who answers, and the one warning when the sides do not fit together."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from pika_tagger import ServerError, ServerInfo, TaggerClient, VersionWarning, __version__
from tests.client.fake_server import FakeServer
from tests.client.twins import Make
from tests.support.fake_triton import LABELS


def without_input(name: str) -> Callable[[Any], None]:
    def spoil(config: Any) -> None:
        del config.input[[each.name for each in config.input].index(name)]

    return spoil


def without_output(name: str) -> Callable[[Any], None]:
    def spoil(config: Any) -> None:
        del config.output[[each.name for each in config.output].index(name)]

    return spoil


def with_input(name: str, *, optional: bool) -> Callable[[Any], None]:
    return lambda config: config.input.add(name=name, optional=optional)


def test_the_server_says_who_it_is(server: FakeServer, tagger: TaggerClient) -> None:
    assert tagger.server_info() == ServerInfo("2.51.0", "tagger", "pika_mood/1", "codes", LABELS)


def test_a_model_that_is_no_tagger_is_an_error(server: FakeServer, tagger: TaggerClient) -> None:
    server.labels = None
    with pytest.raises(ServerError, match="no usable parameter 'labels'"):
        tagger.server_info()


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (without_input("strategy"), "the model has no input strategy"),
        (without_input("pika_last_message"), "the model has no input pika_last_message"),
        (with_input("mood", optional=False), "it wants mood, which this client does not send"),
        (without_output("celebrate_score"), "it has no output celebrate_score"),
    ],
)
def test_a_disagreement_is_one_warning_that_names_all_three_sides(
    server: FakeServer, tagger: TaggerClient, spoil: Callable[[Any], None], difference: str
) -> None:
    server.spoil_config = spoil
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert tagger.tag(user_last_message="a", pika_response="b").emotion_name == "proud"
        tagger.server_info()
        tagger.health()
    (warning,) = [str(each.message) for each in caught if each.category is VersionWarning]
    for part in (f"pika_tagger {__version__}", "Triton 2.51.0", "prompt pika_mood/1", difference, "Update the older side"):
        assert part in warning


def test_a_new_optional_input_is_no_disagreement(server: FakeServer, tagger: TaggerClient) -> None:
    server.spoil_config = with_input("mood", optional=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tagger.tag(user_last_message="a", pika_response="b").emotion_name == "proud"


def test_a_server_that_keeps_its_metadata_to_itself_is_used_all_the_same(make: Make, server: FakeServer) -> None:
    server.restrict_metadata = True
    with make(server.url, timeout_s=5.0) as tagger:
        assert tagger.tag(user_last_message="a", pika_response="b").emotion_name == "proud"
        assert tagger.server_info().triton_version is None
