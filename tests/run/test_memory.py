"""A memory of passages: found again, replaced, and of one encoder."""

import numpy as np
import pytest

from jaxformer.data.passages import Passage
from jaxformer.run.main_point import words
from jaxformer.run.memory import MAIN_POINT, open_memory
from jaxformer.run.reading import Reader, pool_pieces
from tests.encoders import write_encoder

pytest.importorskip("milvus_lite", reason="needs jaxformer[memory]")

TEXTS = ["The lord is my shepherd.", "My sheepfold, and the sheep", "is is is", "..."]
PASSAGES = [Passage("a.txt", number, text) for number, text in enumerate(TEXTS, start=1)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader.open(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


def test_a_passage_is_found_by_itself(tmp_path, reader):
    with open_memory(tmp_path / "m", reader, may_be_new=True) as memory:
        memory.add(PASSAGES)
    with open_memory(tmp_path / "m", reader) as memory:
        for passage in PASSAGES:
            first, second = memory.ask(passage.text, 2)
            assert first.passage == passage
            assert first.similarity == pytest.approx(1, abs=1e-5)
            assert second.similarity < 1 - 1e-5


def test_the_main_point_is_a_share_of_the_words(tmp_path, reader):
    with open_memory(tmp_path / "m", reader, may_be_new=True, share=0.4) as memory:
        memory.add(PASSAGES)
        points = {each.passage.number: each.main_point for each in memory.ask("my", 4)}
    # Of five words, five and three; and of none.
    assert {number: len(point) for number, point in points.items()} == {1: 2, 2: 2, 3: 2, 4: 0}
    for number, point in points.items():
        assert set(point) <= set(words(TEXTS[number - 1]))
    readings = dict(reader.read(TEXTS))
    last_S = readings[0].scores["layer 2"][1:6]
    best = sorted(np.argsort(-last_S)[:2])
    assert points[1] == [words(TEXTS[0])[place] for place in best]


def test_a_vector_can_be_that_of_the_main_point(tmp_path, reader):
    with open_memory(tmp_path / "m", reader, may_be_new=True, vector=MAIN_POINT) as memory:
        memory.add(PASSAGES[:1])
        readings = dict(reader.read(TEXTS[:1]))
        # Two of five words, each of one piece, after [CLS].
        (answer,) = memory.ask("my", 1)
        places = [1 + words(TEXTS[0]).index(span) for span in answer.main_point]
        chosen_S = np.isin(np.arange(8), places)
        vector_D = pool_pieces(readings[0], chosen_S)
        ((hit,),) = memory.store.search(vector_D[None], 1)
        assert hit.similarity == pytest.approx(1, abs=1e-5)


def test_a_file_that_is_added_again_is_replaced(tmp_path, reader):
    other = Passage("b.txt", 1, "and the lord")
    with open_memory(tmp_path / "m", reader, may_be_new=True) as memory:
        memory.add([*PASSAGES, other])
        memory.add([Passage("a.txt", 1, "sheep and sheep")])
        assert sorted(memory.store.names()) == ["a.txt#1", "b.txt#1"]
        assert memory.ask("sheep and sheep", 1)[0].passage.text == "sheep and sheep"


def test_other_settings_and_encoders_are_told(tmp_path, reader):
    other = Reader.open(write_encoder(tmp_path / "other", seed=1))
    with open_memory(tmp_path / "m", reader, may_be_new=True, share=0.5):
        pass
    with open_memory(tmp_path / "m", reader, share=0.5) as memory:
        assert memory.share == 0.5
    for using, settings, message in (
        (other, {}, "was made with encoder="),
        (reader, {"share": 0.25}, "was made with share=0.5, got 0.25"),
        (reader, {"vector": MAIN_POINT}, "was made with vector='passage', got 'main_point'"),
    ):
        with (
            pytest.raises(ValueError, match=message),
            open_memory(tmp_path / "m", using, may_be_new=True, **settings),
        ):
            pass
