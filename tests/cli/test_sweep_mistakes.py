"""sweep: a mistake is one sentence, and nothing is written."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = str(ROOT / "configs" / "table3" / "b_key_size.py")
QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.py'}"
EITHER = (
    "Name either config files with ROWS (configs/table3/*.py --scale=laptop), or one config and "
    "its values (--config=configs/quickstart.py --sweep model.num_heads=1,2)."
)
MISTAKES = {
    "nothing to sweep": ([], EITHER),
    "both ways": ([TABLE, QUICKSTART], EITHER),
    "rows and values": ([TABLE, "--sweep=model.d_k=3"], EITHER),
    "no such file": (
        [TABLE.replace("size", "sise"), "--scale=laptop"],
        f"There is no config file {TABLE.replace('size', 'sise')!r}. Did you mean 'b_key_size.py'?",
    ),
    "no rows": (
        [str(ROOT / "configs" / "big.py")],
        f"{ROOT}/configs/big.py has no ROWS, so that there is nothing to sweep. Make rows on the "
        f"command line: --config={ROOT}/configs/big.py --sweep KEY=VALUE,VALUE.",
    ),
    "no scale": ([TABLE], "A scale is needed: --scale=NAME, one of paper, laptop."),
    "unknown scale": (
        [TABLE, "--scale=phone"],
        "Unknown scale 'phone'; the files have paper, laptop.",
    ),
    "a file twice": (
        [TABLE, TABLE, "--scale=laptop"],
        "2 files are named b_key_size, and rows are told apart by their file's name. Leave one "
        "out, or sweep it into another --workdir.",
    ),
    "an override of a row": (
        [TABLE, "--scale=laptop", "--config.model.d_k=4"],
        "--config.model.d_k=4 would undo row 'd_k=16' of b_key_size, which sets it to 8. Leave it "
        "out.",
    ),
    "an unknown override": (
        [TABLE, "--scale=laptop", "--config.model.dk=4"],
        "Unknown setting 'model.dk'. Did you mean 'model.d_k'?",
    ),
    "an override that is out of range": (
        [TABLE, "--scale=laptop", "--config.train.dropout_rate=1"],
        "Row 'd_k=16' of b_key_size: train.dropout_rate=1.0 is out of range. Set it to a number "
        "from 0 to below 1.",
    ),
    "the seed": (
        [TABLE, "--scale=laptop", "--config.train.seed=4"],
        "train.seed is what members of a row differ in. Set --seeds=N instead.",
    ),
    "an unknown protocol": (
        [TABLE, "--scale=laptop", "--protocol=bleu"],
        "Unknown protocol 'bleu'; there are multi_bleu_lc, paper.",
    ),
    "no seeds": (
        [TABLE, "--scale=laptop", "--seeds=0"],
        "Argument --seeds: '0' is not a whole number of 1 or more. See jaxformer sweep --help.",
    ),
    "none of the members": (
        [TABLE, "--scale=laptop", "--only=a*"],
        "--only=a* is none of the 2 members, such as b_key_size/d_k=16/seed=0.",
    ),
    "not of the form": (
        [QUICKSTART, "--sweep=model.num_heads"],
        "--sweep 'model.num_heads' is not of the form KEY=VALUE,VALUE.",
    ),
    "an unknown key": (
        [QUICKSTART, "--sweep=model.heads=1,2"],
        "Unknown setting 'model.heads'. Did you mean 'model.num_heads'?",
    ),
    "a value of another type": (
        [QUICKSTART, "--sweep=model.num_heads=1,two"],
        "model.num_heads='two' is not a whole number, which it must be.",
    ),
    "no value": (
        [QUICKSTART, "--sweep=model.num_heads="],
        "model.num_heads='' is not a whole number, which it must be.",
    ),
    "a value twice": (
        [QUICKSTART, "--sweep=train.dropout_rate=0.1,1e-1"],
        "--sweep train.dropout_rate=0.1,1e-1 has a value twice. Leave one out.",
    ),
    "a key twice": (
        [QUICKSTART, "--sweep=model.d_k=1,2", "--config.model.d_k=3"],
        "model.d_k is set twice. Give it once, with all its values in --sweep.",
    ),
    "a bad seed": (
        [QUICKSTART, "--sweep=train.seed=0,-1"],
        "train.seed=-1 is out of range. Set it to a whole number of 0 or more.",
    ),
    "seeds twice": (
        [QUICKSTART, "--sweep=train.seed=0,1", "--seeds=3"],
        "Seeds are in --seeds and in --sweep train.seed. Leave one out.",
    ),
    "a scale of no rows": (
        [QUICKSTART, "--scale=laptop", "--sweep=model.num_heads=1,2"],
        f"--scale is for files with ROWS. Write {QUICKSTART}:ARG instead.",
    ),
    "a model that cannot be": (
        [QUICKSTART, "--sweep=model.num_heads=4,5"],
        "Row 'model.num_heads=5' of quickstart: d_model=128 is not divisible by num_heads=5. Set "
        "model.d_k and model.d_v, or choose a multiple of 5.",
    ),
    "commands of a population": (
        [QUICKSTART, "--population", "--print"],
        "--print prints a command for each member. Leave --population out.",
    ),
    "rows that may end early": (
        [QUICKSTART, "--config.train.patience=3"],
        "Row 'base' of quickstart: train.patience=3 may end some rows before others, and a sweep "
        "gives all the same steps. Set --config.train.patience=0.",
    ),
    "nothing to score on": (
        [
            f"--config={ROOT / 'configs' / 'plain_text.py'}",
            "--config.data.train_source=a",
            "--config.data.train_target=b",
        ],
        "Row 'base' of plain_text: Members are scored on the split 'valid', which has no files. "
        "Name them: --config.data.valid_source=FILE --config.data.valid_target=FILE.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(jaxformer, tmp_path, name):
    argv, message = MISTAKES[name]
    result = jaxformer("sweep", *argv, f"--workdir={tmp_path / 's'}")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {message}\n"
    assert not (tmp_path / "s").exists()


FILES = {
    "ROWS = {'x': 3}": "ROWS of {file} is not of the form {{label: {{scale: {{key: value}}}}}}.",
    "ROWS = 3": "ROWS of {file} is not of the form {{label: {{scale: {{key: value}}}}}}.",
    "ROWS = {'x': {'s': {'model.d_k': 3}}}": "get_config of {file}:s/x gives model.d_k=0, where "
    "ROWS has 3. Let it apply its rows.",
    "ROWS = {'x': {'s': {'model.dk': 3}}}": "get_config of {file}:s/x gives model.dk=None, where "
    "ROWS has 3. Let it apply its rows.",
    "ROWS = {'x': {'s': {'train.seed': 3}}}": "train.seed is what members of a row differ in. Set "
    "--seeds=N instead.",
    "1 / 0": "Config file {file}: ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("text", FILES)
def test_a_wrong_file_of_rows_is_one_sentence(jaxformer, tmp_path, text):
    path = tmp_path / "mine.py"
    base = str(ROOT / "configs" / "quickstart.py")
    path.write_text(
        f"import runpy\n{text}\n"
        f"def get_config(arg=''):\n    return runpy.run_path({base!r})['get_config']()\n",
        encoding="utf-8",
    )
    result = jaxformer("sweep", str(path), f"--workdir={tmp_path / 's'}")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {FILES[text].format(file=path)}\n"


def test_a_workdir_is_needed_and_must_not_be_a_file(jaxformer, tmp_path):
    result = jaxformer("sweep", TABLE, "--scale=laptop")
    assert result.err == "jaxformer: A folder for the sweep is needed: --workdir=runs/name.\n"
    (tmp_path / "file").touch()
    result = jaxformer("sweep", TABLE, "--scale=laptop", f"--workdir={tmp_path / 'file'}")
    assert result.code == 2
    assert result.err.count("\n") == 1


def test_another_scale_in_the_same_folder_is_refused(jaxformer, tmp_path):
    argv = ["sweep", TABLE, f"--workdir={tmp_path}", "--print"]
    assert jaxformer(*argv, "--scale=laptop").code == 0
    before = (tmp_path / "manifest.json").read_bytes()
    result = jaxformer(*argv, "--scale=paper")
    assert result.code == 2
    assert result.err == (
        "jaxformer: The sweep that is there is of scale 'laptop', and this one of scale 'paper'. "
        "Give another --workdir.\n"
    )
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_mistake_in_the_arguments_imports_nothing_that_is_slow(tmp_path):
    script = (
        "import sys; from jaxformer.cli.main import main; "
        f"codes = [main(['sweep', '--help']), main(['sweep', {TABLE!r}, '--workdir=w'])]; "
        "slow = {'jax', 'rich', 'orbax', 'sacrebleu'} & set(sys.modules); "
        "sys.exit(repr((codes, slow)) if slow or codes != [0, 2] else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
