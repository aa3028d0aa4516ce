"""Attention of a sentence as a web page of one file, which needs neither network nor server.

What is text of a user or a model goes in as JSON that holds no markup, and is only ever shown as
text; the page's policy lets no other script or style run than its own.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from jaxformer.files import replace_file
from jaxformer.io.attention_map import AttentionMap

# What could end the page's block of data, or a line of JavaScript; all else above ASCII is escaped
# by json.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def write_attention_page(
    maps: Mapping[str, AttentionMap],
    path: str | os.PathLike[str],
    *,
    source: str = "",
    target: str = "",
) -> None:
    """Writes the page, whole or not at all.

    Weights are rounded to a thousandth: 40 words a side, 6 layers and 8 heads take less than 1 MB.

    Args:
      maps: by kind of attention: "encoder", "decoder", "cross", or some of them.
      path: of the file, in a folder that exists.
      source, target: the sentences, for the head of the page.

    Raises: ValueError if there are no maps.
    """
    if not maps:
        raise ValueError("There is no attention to show. Give the map of one kind or more.")
    data = {
        "source": source,
        "target": target,
        "maps": {kind: _to_json(each) for kind, each in maps.items()},
    }
    replace_file(path, _page(data))


def _page(data: Mapping[str, Any]) -> str:
    template, style, script = (_part(kind) for kind in ("html", "css", "js"))
    parts = {
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_ESCAPES),
        "style": style,
        "style_hash": _sha256(style),
        "script": script,
        "script_hash": _sha256(script),
    }
    # In one pass, so that no text of a part is taken for a place of another.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _to_json(attention: AttentionMap) -> dict[str, Any]:
    weights_LHTS = np.clip(np.rint(1000 * attention.weights_LHTS), 0, 1000).astype(int)
    layers, heads = weights_LHTS.shape[:2]
    return {
        "queries": attention.queries,
        "keys": attention.keys,
        # A flat list a head, row by row.
        "layers": weights_LHTS.reshape(layers, heads, -1).tolist(),
    }


def _part(kind: str) -> str:
    file = resources.files("jaxformer.io").joinpath(f"attention_page.{kind}")
    return file.read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
