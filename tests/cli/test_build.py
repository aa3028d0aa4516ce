"""The library's objects are those that the settings name."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxformer.cli import build
from jaxformer.model import Learned, pre_norm, restricted_attention
from jaxformer.optim import noam_rate

BASE = Path(__file__).resolve().parent.parent.parent / "configs" / "base.py"


@pytest.fixture
def config():
    return runpy.run_path(str(BASE))["get_config"]().to_dict()


def test_base_is_the_papers_model(config):
    from jaxformer.model import Transformer

    # The defaults of the class are the paper's base model.
    assert build.make_model(config, 37_000) == Transformer(vocab_size=37_000)


def test_learned_positions_must_hold_the_longest_sentence(config):
    config["model"].update(positions="jaxformer.model:Learned", max_length=255)
    with pytest.raises(ValueError, match=r"model.max_length=255 .* data.max_length=256"):
        build.make_model(config, 10)
    config["model"]["max_length"] = 256
    build.make_model(config, 10)


def test_every_field_of_the_model_is_a_setting(config):
    config["data"]["max_length"] = 11
    config["model"].update(
        d_model=24, d_ff=5, num_heads=3, d_k=7, d_v=0, num_encoder_layers=2, num_decoder_layers=4,
        residual="jaxformer.model:pre_norm", positions="jaxformer.model:Learned",
        activation="jax.nn:gelu", attention="tests_attention:Holder.attend", attention_bias=True,
        norm_epsilon=0.5, max_length=11, vocab_multiple=13, dtype="bfloat16", attention_window=17,
        product_dtype="bfloat16", remat="dots", scan_layers=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "tests_attention", Module)
        model = build.make_model(config, 100)
    assert (model.d_model, model.d_ff, model.num_heads, model.d_k, model.d_v) == (24, 5, 3, 7, 8)
    assert (model.num_encoder_layers, model.num_decoder_layers) == (2, 4)
    assert (model.residual, model.positions, model.activation) == (pre_norm, Learned, jax.nn.gelu)
    assert model.attend is Module.Holder.attend
    assert (model.attention_bias, model.norm_epsilon, model.max_length) == (True, 0.5, 11)
    assert (model.vocab_multiple, model.vocab_size, model.attention_window) == (13, 100, 17)
    assert (model.dtype, model.product_dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert (model.remat, model.scan_layers) == ("dots", True)


class Module:
    """Stands for a user's module."""

    class Holder:
        """Holds the attention."""

        attend = staticmethod(print)


def test_restricted_attention_needs_a_window(config):
    config["model"].update(attention="jaxformer.model:restricted_attention")
    with pytest.raises(ValueError, match="model.attention_window=0 restricts nothing"):
        build.make_model(config, 10)
    config["model"]["attention_window"] = 3
    model = build.make_model(config, 10)
    assert (model.attend, model.attention_window) == (restricted_attention, 3)


def test_heads_that_do_not_come_out_even(config):
    config["model"].update(d_model=500)
    with pytest.raises(ValueError, match="d_model=500 is not divisible by num_heads=8"):
        build.make_model(config, 10)
    config["model"].update(d_k=3)
    with pytest.raises(ValueError, match="Set model.d_k and model.d_v, or choose a multiple of 8"):
        build.make_model(config, 10)
    config["model"].update(d_v=4)
    model = build.make_model(config, 10)
    assert (model.d_k, model.d_v) == (3, 4)


def test_the_rate_is_the_schedule_times_the_factor(config):
    config["optimizer"].update(learning_rate=3.0, warmup_steps=7)
    rate, hyper = build.make_rate(config), build.make_hyper(config)
    for step in (1, 7, 50):
        expected = 3.0 * noam_rate(step, d_model=512, warmup_steps=7)
        assert rate(jnp.int32(step), hyper) == pytest.approx(float(expected))


def test_the_schedule_knows_the_end(config):
    config["optimizer"].update(schedule="jaxformer.optim:linear_rate", warmup_steps=2)
    config["train"].update(num_steps=10)
    rate, hyper = build.make_rate(config), build.make_hyper(config)
    assert rate(jnp.int32(11), hyper) == 0.0
    assert rate(jnp.int32(10), hyper) > 0.0


def test_hyper_and_optimizer_take_their_settings(config):
    config["train"].update(dropout_rate=0.25, label_smoothing=0.5)
    hyper = build.make_hyper(config)
    assert (float(hyper.dropout_rate), float(hyper.label_smoothing)) == (0.25, 0.5)
    config["optimizer"].update(clip_norm=1e-3, beta1=0.0, beta2=0.0, epsilon=1.0)
    optimizer = build.make_optimizer(config)
    gradient = {"x": jnp.array([3.0])}
    direction, _ = optimizer.update(gradient, optimizer.init(gradient))
    # Clipped to 0.001, then g / (|g| + epsilon).
    assert float(direction["x"][0]) == pytest.approx(1e-3 / 1.001, rel=1e-4)


def test_weight_decay_is_on_top_of_the_direction(config):
    config["optimizer"].update(weight_decay=0.25)
    optimizer, params = build.make_optimizer(config), {"x": jnp.array([8.0])}
    zero = {"x": jnp.array([0.0])}
    direction, _ = optimizer.update(zero, optimizer.init(params), params)
    assert float(direction["x"][0]) == 2.0


def test_a_corpus_needs_the_files_of_the_splits_that_are_read(config, tmp_path):
    for split in ("train", "test"):
        config["data"].update({f"{split}_{side}": f"{split}.x" for side in ("source", "target")})
    config["data"].update(corpus="plain_text", source="", target="", data_dir=str(tmp_path))
    config["data"].update(manual_dir=str(tmp_path))
    (tmp_path / "test.x").write_text("a line\n", encoding="utf-8")
    assert build.named_splits(config) == ["train", "test"]
    corpus = build.make_corpus(config, ["test"])
    assert corpus.splits == ("test",)
    assert list(corpus.pairs("test")) == [("a line", "a line")]
    with pytest.raises(ValueError, match="'train.x' does not exist"):
        build.make_corpus(config)
    with pytest.raises(ValueError, match="has no split 'valid'; it has train, test"):
        build.make_corpus(config, ["valid"])


@pytest.mark.parametrize("name", ["math:hypot", "jax.numpy:expand_dims"])
def test_a_length_penalty_is_tried(config, name):
    build.make_length_penalty(config)
    config["decode"]["length_penalty"] = name
    with pytest.raises(ValueError, match=f"decode.length_penalty={name} is no function of"):
        build.make_length_penalty(config)


def test_a_treebank_may_be_named_or_not(config, tmp_path):
    config["data"].update(corpus="treebank", source="words", target="brackets")
    config["data"].update(data_dir=str(tmp_path), manual_dir=str(tmp_path))
    assert build.named_splits(config) == []
    config["data"].update(train_target="train.ptb", test_target="test.ptb")
    assert build.named_splits(config) == ["train", "test"]
    (tmp_path / "test.ptb").write_text("(S (NN it))\n", encoding="utf-8")
    corpus = build.make_corpus(config, ["test"])
    assert list(corpus.pairs("test")) == [("it", "(S NN )S")]
    with pytest.raises(ValueError, match="has no split 'valid'; it has train, test"):
        build.make_corpus(config, ["valid"])


def test_a_module_that_fails_keeps_its_error(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import not_installed_here", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_here"):
        build.resolve("model.attention", "needs_more:attend")


def test_what_is_no_residual_is_told(config):
    config["model"]["residual"] = "jax.nn:relu"
    with pytest.raises(ValueError, match=r"^model\.residual=jax\.nn:relu is no Residual"):
        build.make_model(config, 100)
