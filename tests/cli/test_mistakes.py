"""A user's mistake is answered in one sentence with the fix; a fault keeps its traceback."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxformer.cli.main import COMMANDS, main
from jaxformer.cli.mistakes import Mistake, mistakes

ROOT = Path(__file__).resolve().parent.parent.parent


def one_sentence(result):
    """Returns the message, after checking that it is all there is."""
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("jaxformer: ")
    assert result.err.count("\n") == 1
    return result.err.removeprefix("jaxformer: ").rstrip("\n")


ARGUMENTS = {
    "no command": (
        [],
        "A command is needed: train, evaluate, translate, sweep, report, preflight, attention, "
        "export, memory. See jaxformer --help.",
    ),
    "unknown command": (["trian"], "Unknown command 'trian'. Did you mean 'train'?"),
    "no config": (
        ["train", "--workdir=w"],
        "A config is needed: --config=configs/quickstart.py, for instance.",
    ),
    "unknown argument": (
        ["evaluate", "--workdri=w"],
        "Unknown argument '--workdri=w'. Did you mean '--workdir'?",
    ),
    "unknown argument with a dot": (
        ["train", "--confg.train.seed=3"],
        "Unknown argument '--confg.train.seed=3'. Did you mean '--config'?",
    ),
    "no value": (
        ["train", "--config"],
        "--config lacks a value. Write --config=...",
    ),
    "another flag for a value": (
        ["train", "--config.train.seed", "--workdir=w"],
        "--config.train.seed lacks a value. Write --config.train.seed=...",
    ),
    "bad number": (
        ["translate", "--workdir=w", "--num_beams=0"],
        "Argument --num_beams: '0' is not a whole number of 1 or more. See jaxformer translate "
        "--help.",
    ),
    "no workdir": (["evaluate"], "Name the folder of a run: --workdir=runs/name."),
    "no such workdir": (
        ["translate", "--workdir=nowhere"],
        "nowhere is not the workdir of a run: it holds no config.json. Give the --workdir that "
        "`jaxformer train` was given.",
    ),
    "a config for a trained model": (
        ["translate", "--workdir=w", "--config=configs/base.py"],
        "The settings are those of the workdir: leave --config=... out.",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments(jaxformer, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    argv, message = ARGUMENTS[name]
    assert one_sentence(jaxformer(*argv)) == message


SETTINGS = {
    "--config.model.num_head=3": "Unknown setting 'model.num_head'. Did you mean "
    "'model.num_heads'?",
    "--config.train.d_model=3": "Unknown setting 'train.d_model'. Did you mean 'model.d_model'?",
    "--config.qqq=3": "Unknown setting 'qqq'.",
    "--config.decode=3": "'decode' is a group of settings. Set one of them: decode.alpha, "
    "decode.average, decode.batch_tokens, decode.checkpoint, decode.extra_length, "
    "decode.length_penalty, decode.num_beams.",
    "--config.model.d_model=many": "model.d_model='many' is not a whole number, which it must be.",
    "--config.model.d_model=2.5": "model.d_model='2.5' is not a whole number, which it must be.",
    "--config.decode.alpha=high": "decode.alpha='high' is not a number, which it must be.",
    "--config.model.attention_bias=2": "model.attention_bias='2' is not true or false, which it "
    "must be.",
    "--config.model.d_model=0": "model.d_model=0 is out of range. Set it to a whole number of 1 or "
    "more.",
    "--config.train.dropout_rate=1": "train.dropout_rate=1.0 is out of range. Set it to a number "
    "from 0 to below 1.",
    "--config.train.label_smoothing=-0.1": "train.label_smoothing=-0.1 is out of range. Set it to "
    "a number from 0 to below 1.",
    "--config.optimizer.learning_rate=-1": "optimizer.learning_rate=-1.0 is out of range. Set it "
    "to a number above 0.",
    "--config.optimizer.learning_rate=inf": "optimizer.learning_rate=inf is out of range. Set it "
    "to a number above 0.",
    "--config.optimizer.warmup_steps=0": "optimizer.warmup_steps=0 is out of range. Set it to a "
    "whole number of 1 or more.",
    "--config.train.seed=4294967296": "train.seed=4294967296 is out of range. Set it to a whole "
    "number of 0 or more, and less than 2147483648.",
    "--config.model.num_heads=5": "d_model=16 is not divisible by num_heads=5. Set model.d_k and "
    "model.d_v, or choose a multiple of 5.",
    "--config.decode.average=9": "train.keep_checkpoints=5 keeps fewer checkpoints than "
    "decode.average=9 reads. Raise the one or lower the other.",
    "--config.decode.checkpoint=best": "decode.checkpoint='best' reads one checkpoint, and "
    "decode.average=5 asks for the mean of as many. Set decode.average=1, or "
    "decode.checkpoint='newest'.",
    "--config.model.dtype=float16": "model.dtype='float16' is out of range. Set it to one of "
    "float32, bfloat16.",
    "--config.model.attention=softmax": "model.attention='softmax' is out of range. Set it to a "
    "name of the form package.module:name.",
    "--config.model.attention=nowhere:fn": "model.attention='nowhere:fn': there is no module "
    "'nowhere'. Correct the name, or put the module's folder on PYTHONPATH.",
    "--config.model.activation=math:pi": "model.activation='math:pi' is no function but "
    "3.141592653589793. Name one that is called.",
    "--config.optimizer.schedule=jaxformer.optim:nom_rate": "optimizer.schedule="
    "'jaxformer.optim:nom_rate': jaxformer.optim has no 'nom_rate'. Correct the name.",
    "--config.decode.length_penalty=jaxformer.decode:penalty_of": "decode.length_penalty="
    "'jaxformer.decode:penalty_of': jaxformer.decode has no 'penalty_of'. Correct the name.",
    "--config.data.corpus=bibel": "Unknown corpus 'bibel'; choose one of bible, multi30k, "
    "plain_text, treebank, wmt14, or name a TFDS builder class as 'package.module:Class'.",
    "--config.data.vocab_size=260": "data.vocab_size=260 is out of range. Set it to a whole "
    "number above 260, which the special tokens and the bytes alone take.",
    "--config.data.vocab_size=20000": "A vocabulary of 20000 is larger than the training text "
    "allows; choose at most ",
    "--config.data.target_tokens=9": "A budget of 9 target tokens does not hold the longest "
    "sentence, ",
    "--config.parallel.fsdp=-2": "parallel.fsdp=-2 is out of range. Set it to a whole number of 1 "
    "or more, or -1 for what is left.",
    "--config.parallel.fsdp=-1": "parallel.data=-1, parallel.fsdp=-1, parallel.tensor=1 is not a "
    "mesh. Set each to 1 or more, and at most one to -1, for all the devices that the others "
    "leave.",
    "--config.parallel.fsdp=64": "parallel.data=-1, parallel.fsdp=64, parallel.tensor=1 needs a "
    "multiple of 64 devices, and there are ",
    "--config.data.max_length=1": "None of the 240 training pairs has at most 1 tokens a side. "
    "Raise data.max_length.",
    "--config.model.positions=jaxformer.model:Learned --config.model.max_length=4": "model."
    "max_length=4 learned positions do not hold sentences of data.max_length=80 tokens. ",
}


@pytest.mark.parametrize("override", SETTINGS)
def test_wrong_settings(tiny, jaxformer, tmp_path, override):
    workdir = tmp_path / "run"
    result = jaxformer(*tiny, f"--workdir={workdir}", *override.split())
    message, expected = one_sentence(result), SETTINGS[override]
    assert message == expected if expected.endswith((".", "?")) else message.startswith(expected)
    assert not workdir.exists()


CONFIGS = {
    "bose.py": "There is no config file '{folder}/bose.py'. Did you mean 'base.py'?",
    "typos.py": "There is no config file '{folder}/typos.py'. Did you mean 'typo.py'?",
    "empty.py": "{folder}/empty.py has no function get_config, so it is not a config file.",
    "number.py": "get_config of {folder}/number.py returned int, expected a ConfigDict.",
    "syntax.py": "Config file {folder}/syntax.py: ",
    "base.py:big": "Config file {folder}/base.py: configs/base.py takes no argument, got 'big'. "
    "Leave it out.",
    "typo.py": "Config file {folder}/typo.py: AttributeError: ",
    "plain.py:big": "Config file {folder}/plain.py: TypeError: get_config() takes 0 positional "
    "arguments but 1 was given",
    "name.py": "Config file {folder}/name.py: NameError: name 'ConfigDict' is not defined",
    "import.py": "Config file {folder}/import.py: ModuleNotFoundError: No module named 'nowhere'",
    "type.py": "Config file {folder}/type.py: TypeError: Could not override field 'd_model' "
    "(reference). many is of original type <class 'str'> and cannot be casted to type "
    "<class 'int'>",
    "less.py": "The setting 'decode.alpha' is missing. Build on configs/base.py.",
    "more.py": "Unknown setting 'model.num_head'. Did you mean 'model.num_heads'?",
}

BUILT_ON_BASE = """
import runpy
from pathlib import Path
def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("base.py")))["get_config"]()
    {}
    return config
"""


@pytest.mark.parametrize("name", CONFIGS)
def test_wrong_config_files(jaxformer, tmp_path, name):
    files = {
        "base.py": (ROOT / "configs" / "base.py").read_text(encoding="utf-8"),
        "empty.py": "",
        "number.py": "def get_config():\n    return 3\n",
        "syntax.py": "def get_config(:\n",
        "plain.py": "def get_config():\n    return 3\n",
        "name.py": "def get_config():\n    return ConfigDict()\n",
        "import.py": "import nowhere\n",
        "typo.py": BUILT_ON_BASE.format("config.model.num_head = 3"),
        "type.py": BUILT_ON_BASE.format('config.model.d_model = "many"'),
        "less.py": BUILT_ON_BASE.format("config.unlock(); del config.decode.alpha"),
        "more.py": BUILT_ON_BASE.format("config.unlock(); config.model.num_head = 3"),
    }
    for file, text in files.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    result = jaxformer("train", f"--config={tmp_path / name}", f"--workdir={tmp_path / 'run'}")
    message, expected = one_sentence(result), CONFIGS[name].format(folder=tmp_path)
    assert message == expected if expected.endswith((".", "?")) else message.startswith(expected)
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_is_a_file(tiny, jaxformer, tmp_path):
    (tmp_path / "run").write_text("precious", encoding="utf-8")
    message = one_sentence(jaxformer(*tiny, f"--workdir={tmp_path / 'run'}"))
    assert message == (
        f"{tmp_path / 'run'} is a file, where --workdir needs a folder. Give another --workdir."
    )
    assert (tmp_path / "run").read_text(encoding="utf-8") == "precious"


def no_corpus(*arguments):
    raise AssertionError("the corpus is prepared")


@pytest.mark.parametrize("name", ["file", "file/run", "folder", "folder/new/run"])
def test_a_wrong_workdir_is_found_before_the_corpus(tiny, jaxformer, tmp_path, monkeypatch, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    # root may write anywhere, so a folder's mode would not do.
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / "folder")
    monkeypatch.setattr("jaxformer.cli.build.make_corpus", no_corpus)
    message = one_sentence(jaxformer(*tiny, f"--workdir={tmp_path / name}"))
    what = "is a file" if name.startswith("file") else "cannot be written to"
    assert message.startswith(f"{tmp_path / name.split('/')[0]} {what}")


@pytest.mark.parametrize("command", ["evaluate", "translate"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_options_of_decoding_are_checked_as_settings_are(trained, jaxformer, command, value):
    message = one_sentence(jaxformer(command, f"--workdir={trained[0]}", f"--alpha={value}"))
    assert message == f"decode.alpha={value} is out of range. Set it to a number."


@pytest.mark.parametrize("command", ["attention", "evaluate", "translate"])
def test_a_length_penalty_that_is_not_there_is_named(trained, jaxformer, tmp_path, command):
    more = ["an bee", f"--output={tmp_path}"] if command == "attention" else []
    argv = [command, f"--workdir={trained[0]}", "--length_penalty=jaxformer.decode:no", *more]
    assert one_sentence(jaxformer(*argv)) == (
        "decode.length_penalty='jaxformer.decode:no': jaxformer.decode has no 'no'. Correct the "
        "name."
    )


def test_an_output_that_cannot_be_written_is_named_as_given(trained, jaxformer, tmp_path):
    (tmp_path / "file").touch()
    for folder, why in (("no", "No such file or directory"), ("file", "Not a directory")):
        output = tmp_path / folder / "x"
        result = jaxformer("translate", f"--workdir={trained[0]}", f"--output={output}")
        assert one_sentence(result) == f"{str(output)!r}: {why}."


def test_what_a_trained_model_does_not_have(trained, jaxformer):
    workdir, _ = trained
    said = one_sentence(jaxformer("evaluate", f"--workdir={workdir}", "--split=tset"))
    assert said == "Corpus 'plain_text' has no split 'tset'; it has train, valid, test."
    said = one_sentence(jaxformer("evaluate", f"--workdir={workdir}", "--protocol=bleu"))
    assert said == "Unknown protocol 'bleu'; there are multi_bleu_lc, paper."
    said = one_sentence(jaxformer("evaluate", f"--workdir={workdir}", "--config.model.d_model=32"))
    assert said.startswith("model.d_model belongs to the trained model and cannot be changed now")
    said = one_sentence(jaxformer("translate", f"--workdir={workdir}", "--input=nowhere"))
    assert said == "'nowhere': No such file or directory."


def test_a_nan_is_looked_for_on_one_device(tiny, jaxformer, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxformer.cli.start._make_mesh", lambda config: SimpleNamespace(size=2))
    result = jaxformer(*tiny, f"--workdir={tmp_path / 'run'}", "--debug_nans")
    assert one_sentence(result).startswith("--debug_nans looks for the operation on one device, ")
    assert not (tmp_path / "run").exists()


def test_without_anybody_to_read_from_and_speak_to_nothing_is_done(trained, monkeypatch):
    names = ("stdin", "stdout", "stderr")
    for name in names:
        monkeypatch.setattr(sys, name, None)
    codes = [main(["translate", f"--workdir={trained[0]}"]), main(["trian"])]
    for name in names:
        getattr(sys, name).close()
    assert codes == [0, 2]


def test_mistakes_take_only_what_a_user_can_mend():
    from jaxformer.data.corpus import open_corpus

    with pytest.raises(Mistake, match="Unknown corpus"), mistakes():
        open_corpus("nowhere")
    with pytest.raises(Mistake, match="'nowhere': No such file"), mistakes():
        Path("nowhere").read_bytes()
    # Raised in this file, which is none of the package's.
    with pytest.raises(ValueError, match="a fault"), mistakes():
        raise ValueError("a fault")
    with pytest.raises(ValueError, match="broadcast"), mistakes():
        np.zeros(2) + np.zeros(3)
    with pytest.raises(BrokenPipeError), mistakes():
        raise BrokenPipeError


def test_a_fault_keeps_its_traceback(tiny, jaxformer, tmp_path, monkeypatch):
    def fault(*arguments):
        return np.zeros(2).reshape(3)

    monkeypatch.setattr("jaxformer.cli.build.make_corpus", fault)
    with pytest.raises(ValueError, match="reshape"):
        jaxformer(*tiny, f"--workdir={tmp_path / 'run'}")


def test_a_traceback_can_be_asked_for(jaxformer, monkeypatch):
    monkeypatch.setenv("JAXFORMER_DEBUG", "1")
    with pytest.raises(Mistake, match="Unknown command"):
        jaxformer("trian")


def test_the_traceback_of_a_config_file_can_be_asked_for(jaxformer, monkeypatch, tmp_path):
    (tmp_path / "c.py").write_text("def get_config():\n    return ConfigDict()\n", encoding="utf-8")
    monkeypatch.setenv("JAXFORMER_DEBUG", "1")
    with pytest.raises(Mistake, match="NameError") as raised:
        jaxformer("train", f"--config={tmp_path / 'c.py'}", f"--workdir={tmp_path / 'run'}")
    assert isinstance(raised.value.__cause__, NameError)


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("raise ValueError('Two of three.')", 1, "ValueError: Two of three.\n"),
        ("open('/nowhere')", 2, "study: '/nowhere': No such file or directory.\n"),
        ("raise KeyboardInterrupt", 130, "study: Interrupted.\n"),
        ("print('a line\\n' * 100_000)", 141, ""),
    ],
)
def test_what_ends_a_script_is_told_as_by_a_command(line, code, told):
    script = (
        "import sys; from jaxformer.cli.mistakes import answered\n"
        f"def work():\n  {line}\n"
        "sys.exit(answered('study', work))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        found = process.stderr.read()
        assert process.wait() == code
    # A fault shows where it is before it says what.
    assert found.endswith(told) if code == 1 else found == told


def test_help_and_version_import_nothing_that_is_slow():
    script = (
        "import sys; from jaxformer.cli.main import main; "
        "codes = [main(['--help']), main(['--version'])]; "
        "slow = {'jax', 'numpy', 'absl', 'ml_collections', 'rich'} & set(sys.modules); "
        "sys.exit(repr((codes, slow)) if slow or any(codes) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: jaxformer COMMAND" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(jaxformer, command):
    result = jaxformer(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"usage: jaxformer {command}" in result.out
    takes = {"report": "folder of the sweep", "preflight": "--topology", "memory": "--database"}
    assert takes.get(command, "--workdir") in result.out
