"""What may become of a good file, for hypothesis: other bytes, or other JSON."""

import copy
import json

from hypothesis import strategies as st

# Numbers that a float cannot hold, and text that UTF-8 cannot.
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ODD |= st.sampled_from([10**400, -(10**400), 2**63, "\ud800", "\0", "nan", "..", "/", "a.b"])
VALUES = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["a.b", "step"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw, good: bytes) -> bytes:
    """Returns any bytes, or the good ones with some cut out, put in, or changed."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 3, 40, len(data)])))
        data[start:end] = draw(st.binary(max_size=3) | st.sampled_from([b"\n", b'"', b"9" * 5000]))
    return bytes(data)


def places_of(value, place=()):
    """Yields where everything within a JSON value stands: its keys, from the top."""
    yield place
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_of(item, (*place, key))


@st.composite
def damaged_json(draw, good: bytes) -> bytes:
    """Returns JSON like the good one, except that something in it is another value, gone or new."""
    value = copy.deepcopy(json.loads(good))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([*places_of(value)][1:] or [(None,)]))
        if last is None:
            break
        holder = value
        for key in above:
            holder = holder[key]
        match draw(st.sampled_from(["another", "another", "gone", "new"])):
            case "another":
                holder[last] = draw(VALUES)
            case "gone":
                del holder[last]
            case "new" if isinstance(holder, dict):
                holder[draw(st.text(max_size=3) | st.just("a.b"))] = draw(VALUES)
    return json.dumps(value).encode()
