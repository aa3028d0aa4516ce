"""A trained run made ready, for the commands that translate with it or read it."""

import os
from collections.abc import Callable
from dataclasses import replace

from jax.sharding import Mesh

from jaxformer.cli import build
from jaxformer.cli.mistakes import mistakes
from jaxformer.run.allocator import keep_freed_memory
from jaxformer.run.compilation import enable_cache
from jaxformer.run.restoring import Trained, restore
from jaxformer.run.translation import Translate, make_translate
from jaxformer.sharding import make_mesh, place_copies


def open_trained(config: build.Config, workdir: str | os.PathLike[str]) -> Trained:
    """Reads a run's vocabulary and averaged parameters, as the settings say, for all devices.

    Raises: Mistake if they are not there or do not fit the settings.
    """
    keep_freed_memory()
    enable_cache()
    with mistakes():
        trained = restore(
            workdir,
            lambda vocab_size: build.make_model(config, vocab_size),
            config["decode"]["average"],
            config["decode"]["checkpoint"],
        )
    return replace(trained, params=place_copies(trained.params, all_devices()))


def all_devices() -> Mesh:
    """Returns the mesh over which sentences are spread, each device with a copy of the model."""
    return make_mesh(-1, 1, 1)


def open_translate(
    config: build.Config,
    trained: Trained,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Translate:
    """Returns translate(params, lines), which decodes as the settings say.

    Args:
      report: as for `make_translate`.

    Raises: Mistake if there is no such length penalty.
    """
    decode = config["decode"]
    with mistakes():
        length_penalty = build.make_length_penalty(config)
    return make_translate(
        trained.model,
        trained.tokenizer,
        num_beams=decode["num_beams"],
        alpha=decode["alpha"],
        extra_length=decode["extra_length"],
        longest=config["data"]["max_length"],
        batch_tokens=decode["batch_tokens"],
        report=report,
        mesh=all_devices(),
        length_penalty=length_penalty,
    )
