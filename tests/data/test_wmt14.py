"""WMT14 as TFDS prepares it: read without TensorFlow, and what is said where it is not there."""

import importlib.util
import json
import subprocess
import sys

import pytest
from tensorflow_datasets.translate.wmt14 import Wmt14Translate

from jaxformer.data.corpus import open_corpus
from jaxformer.data.prepare import prepare_builder

PAIRS = {
    "train": [("Ein Haus.", "A house."), ("Zwei.", "Two."), ("Drei.", "Three.")],
    "validation": [("Guten Tag.", "Good day.")],
    "test": [("Auf Wiedersehen.", "Goodbye."), ("Danke.", "Thank you.")],
}


class SmallWmt14(Wmt14Translate, skip_registration=True):
    """TFDS's builder, given pairs instead of downloads."""

    name = "wmt14_translate"

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(pairs) for split, pairs in PAIRS.items()}

    def _generate_examples(self, pairs):
        language, _ = self.builder_config.language_pair
        for number, (foreign, english) in enumerate(pairs):
            yield number, {language: foreign, "en": english}


@pytest.fixture(autouse=True)
def _no_other_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXFORMER_DATA", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module", params=["de", "fr"])
def language(request):
    return request.param


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, language):
    """A folder with the pair `language`-en as TFDS leaves it."""
    folder = tmp_path_factory.mktemp("wmt14")
    builder = prepare_builder(SmallWmt14, folder, config=f"{language}-en")
    assert str(builder.data_path) == f"{folder}/wmt14_translate/{language}-en/1.0.0"
    return folder


def test_either_direction(prepared, language):
    forth = open_corpus("wmt14", data_dir=prepared, source="en", target=language)
    back = open_corpus("wmt14", data_dir=prepared, source=language, target="en")
    assert back.splits == forth.splits == ("train", "valid", "test")
    for ours, theirs in (("train", "train"), ("valid", "validation"), ("test", "test")):
        assert sorted(back.pairs(ours)) == sorted(PAIRS[theirs])
        assert [pair[::-1] for pair in forth.pairs(ours)] == list(back.pairs(ours))


@pytest.mark.parametrize("place", ["manual_dir", "JAXFORMER_DATA", "TFDS_DATA_DIR"])
def test_other_places(prepared, language, tmp_path, monkeypatch, place):
    options = {"source": "en", "target": language, "data_dir": tmp_path}
    if place == "manual_dir":
        options[place] = prepared
    else:
        monkeypatch.setenv(place, str(prepared))
    assert len(open_corpus("wmt14", **options).pairs("train")) == 3


def test_the_newest_finished_version_is_read(prepared, language):
    directory = prepared / "wmt14_translate" / f"{language}-en"
    made = []
    for name in ("0.9.0", "0.10.0", "incomplete.ABC_2.0.0"):
        made.append(directory / name)
        made[-1].mkdir()
        for path in (directory / "1.0.0").glob("*.*"):
            (made[-1] / path.name).write_bytes(path.read_bytes())
    corpus = open_corpus("wmt14", data_dir=prepared, source="en", target=language)
    assert corpus._directory.name == "1.0.0"
    (directory / "1.0.0").rename(directory / "away")
    corpus = open_corpus("wmt14", data_dir=prepared, source="en", target=language)
    (directory / "away").rename(directory / "1.0.0")
    assert corpus._directory.name == "0.10.0"
    for folder in made:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_reading_imports_no_tensorflow(prepared, language):
    script = (
        "import sys\n"
        "from jaxformer.data.corpus import open_corpus\n"
        "corpus = open_corpus('wmt14', data_dir=sys.argv[1], source='en', target=sys.argv[2])\n"
        "assert len(list(corpus.pairs('train'))) == 3\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, prepared, language], check=True)


def test_a_form_that_needs_tensorflow(prepared, language, tmp_path):
    directory = tmp_path / "wmt14_translate" / f"{language}-en" / "1.0.0"
    directory.mkdir(parents=True)
    for path in (prepared / "wmt14_translate" / f"{language}-en" / "1.0.0").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "dataset_info.json":
            content["fileFormat"] = "tfrecord"
        (directory / path.name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"1\.0\.0 holds no array_record.*tfds convert_format"):
        open_corpus("wmt14", data_dir=tmp_path, source="en", target=language)


def test_neither_data_nor_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"de-en is not prepared in any of .*'jaxformer\[wmt\]'"):
        open_corpus("wmt14", data_dir=tmp_path)


def test_with_tensorflow_tfds_prepares_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("tensorflow_datasets.translate.wmt14.Wmt14Translate", SmallWmt14)
    corpus = open_corpus("wmt14", data_dir=tmp_path, source="fr", target="en")
    assert len(corpus.pairs("train")) == 3


def test_a_failed_download(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no route to host")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(SmallWmt14, "_generate_examples", fail)
    monkeypatch.setattr("tensorflow_datasets.translate.wmt14.Wmt14Translate", SmallWmt14)
    with pytest.raises(ConnectionError, match=r"WMT14 fr-en \(no route to host\); what it has"):
        open_corpus("wmt14", data_dir=tmp_path, source="fr", target="en")


@pytest.mark.parametrize("languages", [("en", "cs"), ("de", "fr"), ("en", "en")])
def test_other_languages(tmp_path, languages):
    with pytest.raises(ValueError, match=f"between en and de or fr, got source='{languages[0]}'"):
        open_corpus("wmt14", data_dir=tmp_path, source=languages[0], target=languages[1])
