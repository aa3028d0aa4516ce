"""Multi30k, on tiny files of our own; on the published ones where $JAXFORMER_DATA has them."""

import gzip
import hashlib
import io
import os
import urllib.error
from pathlib import Path

import pytest

from jaxformer.data import multi30k
from jaxformer.data.corpus import open_corpus

TEXT = {
    "train": {
        "en": " A man. \nTwo dogs.\n",
        "de": "Ein Mann.\nZwei Hunde. \n",
        "fr": "Un homme.\nDeux chiens.\n",
    },
    "val": {"en": "A cat.\n", "de": "Eine Katze.\n", "fr": "Un chat.\n"},
    "test_2016_flickr": {"en": "A bird.\n", "de": "Ein Vogel.\n", "fr": "Un oiseau.\n"},
}
FILES = {
    f"{stem}.{language}.gz": gzip.compress(text.encode(), mtime=0)
    for stem, texts in TEXT.items()
    for language, text in texts.items()
}


@pytest.fixture(autouse=True)
def _own_checksums(monkeypatch):
    monkeypatch.delenv("JAXFORMER_DATA", raising=False)
    monkeypatch.setattr(multi30k, "urllib", None)
    for name, data in FILES.items():
        monkeypatch.setitem(multi30k.SHA256, name, hashlib.sha256(data).hexdigest())


def write(folder, names=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(FILES[name])
    return folder


def test_every_pair_of_the_files(tmp_path):
    manual_dir = write(tmp_path / "manual")
    german = open_corpus("multi30k", data_dir=tmp_path, manual_dir=manual_dir)
    assert german.splits == ("train", "valid", "test")
    assert list(german.pairs("train")) == [("A man.", "Ein Mann."), ("Two dogs.", "Zwei Hunde.")]
    assert list(german.pairs("test")) == [("A bird.", "Ein Vogel.")]
    french = open_corpus(
        "multi30k", data_dir=tmp_path, manual_dir=manual_dir, source="fr", target="en"
    )
    assert list(french.pairs("valid")) == [("Un chat.", "A cat.")]


def test_either_direction_reads_the_same_files(tmp_path):
    write(tmp_path / "downloads" / "manual" / "multi30k")
    forth = open_corpus("multi30k", data_dir=tmp_path, source="en", target="de")
    back = open_corpus("multi30k", data_dir=tmp_path, source="de", target="en")
    assert [pair[::-1] for pair in back.pairs("train")] == list(forth.pairs("train"))
    assert [path.name for path in (tmp_path / "multi30k").iterdir()] == ["de-en"]


@pytest.mark.parametrize("place", ["manual_dir", "JAXFORMER_DATA", "tfds"])
def test_where_the_files_are_looked_for(tmp_path, monkeypatch, place):
    options = {}
    if place == "manual_dir":
        write(tmp_path / "mine" / "multi30k")
        options["manual_dir"] = tmp_path / "mine"
    elif place == "JAXFORMER_DATA":
        write(tmp_path / "shared" / "multi30k")
        monkeypatch.setenv("JAXFORMER_DATA", str(tmp_path / "shared"))
    else:
        write(tmp_path / "downloads" / "manual" / "multi30k")
    corpus = open_corpus("multi30k", data_dir=tmp_path, **options)
    assert len(corpus.pairs("train")) == 2


def test_prepared_data_needs_no_files(tmp_path):
    folder = write(tmp_path / "manual")
    open_corpus("multi30k", data_dir=tmp_path, manual_dir=folder)
    for path in folder.iterdir():
        path.unlink()
    assert len(open_corpus("multi30k", data_dir=tmp_path).pairs("train")) == 2


def test_another_file_of_that_name_is_refused(tmp_path):
    folder = write(tmp_path / "manual")
    (folder / "val.de.gz").write_bytes(gzip.compress(b"Ein Hund.\n"))
    with pytest.raises(ValueError, match=r"val\.de\.gz has the sha256 .*, expected .*delete it"):
        open_corpus("multi30k", data_dir=tmp_path, manual_dir=folder)
    assert not list((tmp_path / "multi30k").rglob("*.array_record*"))


@pytest.mark.parametrize("languages", [("cs", "en"), ("de", "fr"), ("en", "en")])
def test_other_languages(tmp_path, languages):
    with pytest.raises(ValueError, match=f"got source='{languages[0]}' and target="):
        open_corpus("multi30k", data_dir=tmp_path, source=languages[0], target=languages[1])


class FakeNetwork:
    """Stands in for urllib; serves FILES, or fails as a machine without network does."""

    def __init__(self, works):
        self.works = works
        self.fetched = []
        self.request = self
        self.error = urllib.error

    def urlopen(self, url, timeout):
        assert timeout > 0
        assert url.startswith(multi30k.URL)
        if not self.works:
            raise urllib.error.URLError("Name or service not known")
        self.fetched.append(url.removeprefix(multi30k.URL))
        return io.BytesIO(FILES[self.fetched[-1]])


def test_download_of_what_is_missing(tmp_path, monkeypatch):
    network = FakeNetwork(works=True)
    monkeypatch.setattr(multi30k, "urllib", network)
    folder = write(tmp_path / "manual", ["train.de.gz", "train.en.gz"])
    corpus = open_corpus("multi30k", data_dir=tmp_path, manual_dir=folder)
    assert list(corpus.pairs("valid")) == [("A cat.", "Eine Katze.")]
    missing = {f"{stem}.{code}.gz" for stem in ("val", "test_2016_flickr") for code in ("de", "en")}
    assert set(network.fetched) == missing
    assert {path.name for path in (tmp_path / "downloads" / "multi30k").iterdir()} == missing


def test_a_download_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(multi30k, "urllib", FakeNetwork(works=True))
    open_corpus("multi30k", data_dir=tmp_path, source="en", target="de")
    network = FakeNetwork(works=True)
    monkeypatch.setattr(multi30k, "urllib", network)
    open_corpus("multi30k", data_dir=tmp_path, source="en", target="fr")
    assert network.fetched == ["train.fr.gz", "val.fr.gz", "test_2016_flickr.fr.gz"]


def test_a_download_is_compared_with_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(multi30k, "urllib", FakeNetwork(works=True))
    monkeypatch.setitem(multi30k.SHA256, "val.en.gz", "0" * 64)
    with pytest.raises(ValueError, match=r"val\.en\.gz has the sha256"):
        open_corpus("multi30k", data_dir=tmp_path)


def test_neither_files_nor_network(tmp_path, monkeypatch):
    monkeypatch.setattr(multi30k, "urllib", FakeNetwork(works=False))
    with pytest.raises(ConnectionError, match=r"is in none of .*Name or service.*put the file"):
        open_corpus("multi30k", data_dir=tmp_path)


PUBLISHED = Path(os.environ.get("JAXFORMER_DATA", "/nowhere")) / "multi30k"


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="$JAXFORMER_DATA holds no multi30k")
def test_the_published_files(tmp_path, monkeypatch):
    monkeypatch.undo()
    corpus = open_corpus("multi30k", data_dir=tmp_path, manual_dir=PUBLISHED)
    assert [len(corpus.pairs(split)) for split in corpus.splits] == [29000, 1014, 1000]
    assert corpus.pairs("test")[0] == (
        "A man in an orange hat starring at something.",
        "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
    )
    assert all(text == text.strip() != "" for pair in corpus.pairs("train") for text in pair)
