"""`jaxformer export`: a trained model in both formats translates as `jaxformer translate` does."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import sentencepiece

from jaxformer.cli import build
from jaxformer.io.export_safetensors import load
from jaxformer.io.record import read_config
from jaxformer.run.restoring import restore

LINES = ["an bee can", "low kin jam in he", "go", "far eat do can bee"]


def test_safetensors_holds_the_averaged_parameters(trained, jaxformer, tmp_path):
    workdir, _ = trained
    output = tmp_path / "new" / "exported"
    result = jaxformer(
        "export", f"--workdir={workdir}", "--format=safetensors", f"--output={output}"
    )
    assert (result.code, result.err) == (0, "")
    names = ["config.json", "model.safetensors", "sentencepiece.model"]
    assert result.out.splitlines() == [
        "checkpoints 180, 120, averaged",
        f"written     {output}/: {', '.join(names)}",
    ]
    assert sorted(path.name for path in output.iterdir()) == names
    config = read_config(output)
    assert config == read_config(workdir)
    of_run = restore(workdir, lambda size: build.make_model(config, size), 2)
    found = load(output / "model.safetensors")
    assert jax.tree.structure(found) == jax.tree.structure(of_run.params)
    jax.tree.map(np.testing.assert_array_equal, found, of_run.params)
    newest = restore(workdir, lambda size: build.make_model(config, size), 1)
    assert not np.array_equal(found["embedding"]["table"], newest.params["embedding"]["table"])


def test_ctranslate2_translates_alike(trained, jaxformer, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    result = jaxformer(
        "export", f"--workdir={workdir}", "--format=ctranslate2", "--config.decode.average=1"
    )
    assert (result.code, result.err) == (0, "")
    folder = workdir / "export" / "ctranslate2"
    assert result.out.splitlines()[0] == "checkpoints 180"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.bin", "sentencepiece.model", "shared_vocabulary.json",
    ]  # fmt: skip
    ours = jaxformer(
        "translate", f"--workdir={workdir}", "--config.decode.average=1", "--alpha=0",
        "--num_beams=1", stdin="".join(f"{line}\n" for line in LINES).encode(),
    ).out.splitlines()  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.model"))
    found = ctranslate2.Translator(str(folder), intra_threads=1).translate_batch(
        [pieces.encode(line, out_type=str) for line in LINES], beam_size=1
    )
    theirs = [pieces.decode(each.hypotheses[0]) for each in found]
    # Some outputs of this model do not end; ours are the first to meet a limit.
    assert [text[: len(one)] for text, one in zip(theirs, ours, strict=True)] == ours
    assert all(ours)
    assert len(set(ours)) > 1


MISTAKES = {
    "no format": ([], "A format is needed. Give --format=safetensors or --format=ctranslate2."),
    "another format": (
        ["--format=onnx"],
        "--format=onnx is unknown. Give --format=safetensors or --format=ctranslate2.",
    ),
    "an option of decoding": (
        ["--format=safetensors", "--alpha=0"],
        "Unknown argument '--alpha=0'. Did you mean '--help'?",
    ),
    "a folder that holds something": (
        ["--format=safetensors", "--output=full"],
        "{tmp_path}/full is there already, and not empty. Move it away, or name another.",
    ),
    "a file": (
        ["--format=safetensors", "--output=full/file"],
        "{tmp_path}/full/file is there already, and not empty. Move it away, or name another.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(trained, jaxformer, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/file").touch()
    arguments, message = MISTAKES[name]
    result = jaxformer("export", f"--workdir={trained[0]}", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {message.format(tmp_path=tmp_path)}\n"
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "full", tmp_path / "full" / "file"]


def test_without_ctranslate2_the_extra_is_named(trained, jaxformer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    for name in [name for name in sys.modules if name.startswith("ctranslate2.")]:
        monkeypatch.delitem(sys.modules, name)
    output = tmp_path / "out"
    result = jaxformer(
        "export", f"--workdir={trained[0]}", "--format=ctranslate2", f"--output={output}"
    )
    assert result.code == 2
    assert "is not installed. Install jaxformer[export]." in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_answered_without_jax():
    code = "import sys; from jaxformer.cli.main import main; code = main(['export', '--help']); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(code or 'jax' in sys.modules)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--format" in done.stdout
