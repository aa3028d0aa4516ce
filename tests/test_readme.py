"""The README keeps its word: its code runs, and what it names exists."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_other_attention_runs_and_is_masked():
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["model"].attend is names["cosine"]

    model = names["model"].clone(
        vocab_size=17, d_model=6, d_ff=7, num_heads=2, d_k=5, d_v=3,
        num_encoder_layers=1, num_decoder_layers=1,
    )  # fmt: skip
    source_BS = jnp.array([[5, 6, 2]])
    target_BT = jnp.array([[1, 7, 8, 9, 10]])
    params = jax.jit(model.init)(jax.random.key(0), source_BS, target_BT)
    apply = jax.jit(model.apply)
    logits_BTW = apply(params, source_BS, target_BT)
    later_BTW = apply(params, source_BS, target_BT.at[0, 3].set(11))
    np.testing.assert_array_equal(logits_BTW[:, :3], later_BTW[:, :3])
    assert not np.array_equal(logits_BTW[:, 3:], later_BTW[:, 3:])


def test_make_has_the_targets_that_are_named():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    text = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:^    |`)make (?:PYTHON=\S+ )?([a-z-]+(?: [a-z-]+)*)", text, re.M)
    named = {target for command in commands for target in command.split()}
    assert {"quickstart", "test", "lint", "constraints"} <= named
    assert named <= set(targets)


def test_the_tree_is_there():
    section = README.split("## The tree")[1].split("##")[0]
    folder = ""
    for line in re.findall(r"^    ( *[a-z_./]+)(?= |$)", section, re.M):
        name = line.strip()
        path = ROOT / (folder + name if line.startswith(" ") else name)
        assert path.exists(), name
        folder = name if not line.startswith(" ") else folder
