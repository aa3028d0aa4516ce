"""Milvus Lite as the vector database of a memory."""

import numpy as np
import pytest

from jaxformer.io.vector_store import Entry, open_milvus

pytest.importorskip("milvus_lite", reason="needs jaxformer[memory]")

D = 7


def entries(count, seed=0):
    vector_ND = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)
    return [
        Entry(f"e{place}", vector_D, {"text": f'say "{place}" née', "main_point": [[0, 3]]})
        for place, vector_D in enumerate(vector_ND)
    ]


def test_the_nearest_are_found_by_their_angle(tmp_path):
    stored = entries(23)
    query_ND = np.random.default_rng(1).normal(size=(5, D)).astype(np.float32)
    with open_milvus(tmp_path / "m", width=D) as store:
        store.add(stored)
        found = store.search(query_ND, 4)
    vector_ND = np.stack([entry.vector_D for entry in stored])
    length_N, length_Q = (np.linalg.norm(x, axis=1) for x in (vector_ND, query_ND))
    cosine_QN = (query_ND @ vector_ND.T) / length_Q[:, None] / length_N
    for hits, cosine_N in zip(found, cosine_QN, strict=True):
        best = np.argsort(-cosine_N)[:4]
        assert [hit.name for hit in hits] == [f"e{place}" for place in best]
        np.testing.assert_allclose([hit.similarity for hit in hits], cosine_N[best], atol=1e-5)
        assert [dict(hit.content) for hit in hits] == [dict(stored[i].content) for i in best]


def test_what_was_added_is_there_when_it_is_opened_again(tmp_path):
    stored = entries(3)
    with open_milvus(tmp_path / "m", width=D, about={"encoder": "x", "share": 0.5}) as store:
        store.add(stored)
    with open_milvus(tmp_path / "m") as store:
        assert store.about == {"encoder": "x", "share": 0.5}
        assert sorted(store.names()) == ["e0", "e1", "e2"]
        ((hit,),) = store.search(stored[1].vector_D[None], 1)
        assert (hit.name, dict(hit.content)) == ("e1", dict(stored[1].content))


def test_a_known_name_replaces_and_a_removed_one_is_gone(tmp_path):
    old, new = entries(5), entries(5, seed=1)
    with open_milvus(tmp_path / "m", width=D) as store:
        store.add(old)
        store.add(new[:2])
        store.remove(["e3", "never there"])
    with open_milvus(tmp_path / "m") as store:
        assert sorted(store.names()) == ["e0", "e1", "e2", "e4"]
        for entry, nearest in ((new[0], True), (old[0], False), (old[3], False)):
            ((hit,),) = store.search(entry.vector_D[None], 1)
            assert (hit.similarity > 1 - 1e-5) == nearest


def test_nothing_is_found_in_an_empty_one(tmp_path):
    with open_milvus(tmp_path / "m", width=D) as store:
        assert store.names() == []
        assert store.search(np.ones((2, D), np.float32), 3) == [[], []]


def test_what_is_no_memory_is_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("x", encoding="utf-8")
    for name, width, message in (
        ("file", D, "is a file, where a memory is a folder"),
        ("folder", D, "is a folder that holds something else"),
        ("folder", 0, "There is no memory at"),
        ("none", 0, "There is no memory at"),
    ):
        with pytest.raises(ValueError, match=message), open_milvus(tmp_path / name, width=width):
            pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "mine.txt"]


def test_another_width_and_a_second_opening_are_told(tmp_path):
    with open_milvus(tmp_path / "m", width=D) as store:
        store.add(entries(2))
        with (
            pytest.raises(ValueError, match="Another process has the memory .* open"),
            open_milvus(tmp_path / "m"),
        ):
            pass
    with (
        pytest.raises(ValueError, match="are 7 wide, and those of this encoder 8"),
        open_milvus(tmp_path / "m", width=8),
    ):
        pass
