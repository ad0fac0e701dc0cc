import copy
import dataclasses
import pickle

import pytest

from pika_tagger import Tag

TAG = Tag(emotion_name="proud", celebrate=True, emotion_scores={"sad": 0.1, "proud": 0.9}, celebrate_score=0.8, latency_ms=7.5)


def test_json_is_what_robots_exchange_byte_for_byte() -> None:
    assert TAG.json().encode() == b'{"emotion_name": "proud", "celebrate": "yes"}'
    assert dataclasses.replace(TAG, celebrate=False).json().encode() == b'{"emotion_name": "proud", "celebrate": "no"}'


def test_confidence_is_the_score_of_the_chosen_emotion() -> None:
    assert TAG.confidence == 0.9


def test_a_tag_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TAG.emotion_name = "sad"  # type: ignore[misc]
    with pytest.raises(TypeError):
        TAG.emotion_scores["sad"] = 1.0  # type: ignore[index]


def test_a_tag_does_not_follow_changes_of_the_dict_it_was_made_from() -> None:
    scores = {"calm": 1.0}
    tag = Tag("calm", False, scores, 0.0, 1.0)
    scores["calm"] = 0.0
    assert tag.confidence == 1.0


def test_scores_keep_the_order_of_the_labels() -> None:
    assert list(TAG.emotion_scores) == ["sad", "proud"]
    assert len(TAG.emotion_scores) == 2
    assert repr(TAG.emotion_scores) == "{'sad': 0.1, 'proud': 0.9}"


def test_a_tag_survives_pickling_copying_and_asdict() -> None:
    assert pickle.loads(pickle.dumps(TAG)) == TAG
    assert copy.deepcopy(TAG) == TAG
    assert dict(dataclasses.asdict(TAG)["emotion_scores"]) == {"sad": 0.1, "proud": 0.9}


def test_equal_tags_have_equal_hashes() -> None:
    assert hash(TAG) == hash(dataclasses.replace(TAG, emotion_scores=dict(TAG.emotion_scores)))
