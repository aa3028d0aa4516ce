"""The page of attention: what is in the file, and what a person does with it in a browser."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from jaxformer.io.attention_map import AttentionMap
from jaxformer.io.attention_page import write_attention_page
from jaxformer.io.plot_links import COLOURS
from tests.chromium import Chromium

SOURCE = ["In", "the", "bigyn", "·nyng", "God", "made", "heuene", ".", "</s>"]
TARGET = ["In", "the", "beginning", "God", "created", "heaven", "</s>"]
HOSTILE = [
    "</script><img src=x onerror=window.hurt=1>",
    "<!--<script>",
    "{{script}}",
    "&lt;b&gt;",
    "\u2028\u2029",
    "\\u003c",
    "\"'`${1}",
]


def make_map(queries, keys, layers=2, heads=3, seed=0):
    shape = (layers, heads, len(queries), len(keys))
    weights_LHTS = np.random.default_rng(seed).dirichlet([0.3] * len(keys), shape[:3])
    return AttentionMap(weights_LHTS.astype(np.float32), list(queries), list(keys))


def make_maps(**sizes):
    return {
        "encoder": make_map(SOURCE, SOURCE, **sizes),
        "decoder": make_map(TARGET, ["<s>", *TARGET[:-1]], **sizes),
        "cross": make_map(TARGET, SOURCE, **sizes),
    }


def parts_of(path):
    """Returns (data, style, script, all else) of a page, as a browser would divide it."""
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', text, re.S)
    (script,) = re.findall(r"<script>(.*?)</script", text, re.S)
    (style,) = re.findall(r"<style>(.*?)</style", text, re.S)
    rest = text.replace(data, "").replace(script, "").replace(style, "")
    return data, style, script, rest


def test_the_data_are_the_weights_in_thousandths(tmp_path):
    path = tmp_path / "a.html"
    maps = make_maps()
    write_attention_page(maps, path, source="In the", target="þe <b>")
    data = json.loads(parts_of(path)[0])
    assert (data["source"], data["target"]) == ("In the", "þe <b>")
    assert list(data["maps"]) == ["encoder", "decoder", "cross"]
    for kind, attention in maps.items():
        found = data["maps"][kind]
        assert (found["queries"], found["keys"]) == (attention.queries, attention.keys)
        weights_LHTS = np.array(found["layers"]).reshape(attention.weights_LHTS.shape) / 1000
        np.testing.assert_allclose(weights_LHTS, attention.weights_LHTS, atol=0.5001e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def test_no_text_becomes_markup(tmp_path):
    path = tmp_path / "a.html"
    attention = make_map(HOSTILE, HOSTILE)
    write_attention_page({"cross": attention}, path, source=HOSTILE[0], target=HOSTILE[4])
    data, _, script, rest = parts_of(path)
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["maps"]["cross"]["queries"] == HOSTILE
    assert json.loads(data)["source"] == HOSTILE[0]
    assert (rest.count("<script"), rest.count("<img"), rest.count("{{")) == (2, 0, 0)
    assert "onerror" not in rest + script


ANY = st.text(st.characters() | st.sampled_from("<>&/\\{}!-'\"\u2028\u2029\ud800"), max_size=20)


@given(st.lists(ANY, min_size=1, max_size=3), ANY, ANY)
def test_no_text_at_all_becomes_markup(tmp_path_factory, names, source, target):
    path = tmp_path_factory.mktemp("page") / "a.html"
    write_attention_page({"cross": make_map(names, names)}, path, source=source, target=target)
    data, _, _, rest = parts_of(path)
    assert not re.search("[^ -%'-;=?-~]", data)
    found = json.loads(data)
    assert (found["source"], found["target"], found["maps"]["cross"]["keys"]) == (
        source,
        target,
        names,
    )
    write_attention_page({"cross": make_map(["x"], ["x"])}, path)
    assert rest == parts_of(path)[3]


def test_nothing_but_the_page_s_own_script_and_style_may_run(tmp_path):
    path = tmp_path / "a.html"
    write_attention_page(make_maps(), path)
    _, style, script, rest = parts_of(path)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', rest)
    assert policy.startswith("default-src 'none'; ")
    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    # A name, which is never fetched.
    assert re.findall(r"\w+://[^\"' ]+", style + script + rest) == ["http://www.w3.org/2000/svg"]
    assert not re.search(
        r"@import|url\(|<link|\bsrc=|fetch\(|innerHTML|\beval\b", style + script + rest
    )


def test_a_page_of_forty_words_stays_small(tmp_path):
    path = tmp_path / "a.html"
    names = [f"·word{number}" for number in range(40)]
    maps = {
        kind: make_map(names, names, layers=6, heads=8) for kind in ("encoder", "decoder", "cross")
    }
    write_attention_page(maps, path)
    assert path.stat().st_size < 1_000_000


def test_no_attention_is_told_and_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no attention to show"):
        write_attention_page({}, tmp_path / "a.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_attention_page(make_maps(), tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_the_colours_are_those_of_the_pictures(tmp_path):
    path = tmp_path / "a.html"
    write_attention_page(make_maps(), path)
    _, style, script, _ = parts_of(path)
    colours = re.findall(r"--head-\d: (#\w{6});", style)
    assert tuple(colours[: len(COLOURS)]) == COLOURS
    assert len(colours) == 2 * len(COLOURS)
    assert f"const COLOURS = {len(COLOURS)};" in script


def contrast(one, other):
    """Returns WCAG's contrast of two colours, 1 to 21."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        lights.append(0.05 + np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return max(lights) / min(lights)


def test_letters_stand_out_from_what_they_are_on(tmp_path):
    path = tmp_path / "a.html"
    write_attention_page(make_maps(), path)
    colours = re.findall(r"--([\w-]+): (#\w{6});", parts_of(path)[1])
    assert len(colours) == 2 * 15
    for scheme in (dict(colours[:15]), dict(colours[15:])):
        letters = [
            ("ink", "paper"),
            ("soft", "paper"),
            ("soft", "raised"),
            ("accent-ink", "accent"),
        ]
        letters += [("paper", f"head-{head}") for head in range(len(COLOURS))]
        low = [pair for pair in letters if contrast(*(scheme[name] for name in pair)) < 4.5]
        assert low == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, tmp_path):
    """Returns the function that opens a page of maps, which must not fail, nor load anything."""
    path = tmp_path / "a.html"

    def open_page(maps=None, *, source="In the", target="In the", **window):
        write_attention_page(maps or make_maps(), path, source=source, target=target)
        browser.open(path, **window)
        return browser

    yield open_page
    browser.evaluate("new Promise(requestAnimationFrame)")
    assert browser.faults == []
    assert browser.requests == [path.as_uri()]


def word(side, index):
    return f'.word[data-side="{side}"][data-index="{index}"]'


def texts(browser, selector):
    return browser.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].map(found => found.textContent)"
    )


def percents(weights):
    """Returns what the page says of weights, with those it leaves out."""
    rounded = np.rint(1000 * np.asarray(weights)).mean(axis=0)
    return [f"{int(np.floor(value / 10 + 0.5))}%" if value >= 10 else "" for value in rounded]


@pytest.mark.needs("browser")
def test_kind_layer_and_heads_are_picked_by_clicking(page):
    maps = make_maps()
    browser = page(maps)
    assert texts(browser, "#source, #target") == ["In the", "In the"]
    assert texts(browser, "#kinds span") == ["Encoder", "Decoder", "Cross"]
    assert texts(browser, ".queries bdi") == SOURCE
    browser.click("input[value=cross]")
    assert texts(browser, ".queries bdi") == TARGET
    assert texts(browser, ".keys bdi") == SOURCE
    browser.hover(word("query", 2))
    weights_HS = maps["cross"].weights_LHTS[1, :, 2]
    assert texts(browser, ".keys small") == percents(weights_HS)
    browser.click("#layers label:nth-child(1) input")
    browser.click("#heads label:nth-child(2) input")
    browser.hover(word("query", 2))
    weights_HS = maps["cross"].weights_LHTS[0, [0, 2], 2]
    assert texts(browser, ".keys small") == percents(weights_HS)
    assert texts(browser, "#readout th") == ["head 1", "head 3"]
    top = SOURCE[int(np.argmax(weights_HS[0]))]
    assert texts(browser, "#readout td")[0].startswith(
        f"{top} {percents(weights_HS[:1])[int(np.argmax(weights_HS[0]))]}"
    )
    # What looks at a word, the other way round.
    browser.hover(word("key", 4))
    assert texts(browser, ".queries small") == percents(maps["cross"].weights_LHTS[0, [0, 2], :, 4])
    assert texts(browser, "#readout h2") == ["God is looked at by"]


@pytest.mark.needs("browser")
def test_lines_are_as_strong_as_their_weights(page):
    weights_LHTS = np.zeros((1, 2, 2, 3), np.float32)
    weights_LHTS[0, 0] = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    weights_LHTS[0, 1] = [[0.97, 0.03, 0.0], [0.0, 0.0, 1.0]]
    browser = page({"cross": AttentionMap(weights_LHTS, ["x", "y"], ["a", "b", "c"])})

    def lines(group):
        return browser.evaluate(
            f"""[...document.querySelectorAll(".{group} path")].map(path => [
                getComputedStyle(path).stroke,
                Number(path.getAttribute("stroke-opacity")),
                path.getAttribute("d").match(/M/g).length])"""
        )

    first, second = "rgb(68, 119, 170)", "rgb(184, 88, 24)"
    # 0.03 is too faint, until its word is chosen.
    assert lines("all") == [[first, 1, 1], [first, 0.5, 2], [second, 1, 2]]
    assert lines("one") == []
    browser.hover(word("query", 0))
    assert lines("one") == [[first, 1, 1], [second, 1, 1], [second, 0.05, 1]]
    assert browser.evaluate("getComputedStyle(document.querySelector('.all')).opacity < 0.2")


@pytest.mark.needs("browser")
def test_heads_are_compared_side_by_side(page):
    maps = make_maps()
    browser = page(maps)
    browser.click("input[value=apart]")
    assert texts(browser, ".panel h2") == ["head 1", "head 2", "head 3"]
    browser.click(f".panel:nth-child(2) {word('query', 5)}")
    # The word is chosen in every panel, with each head's own weights.
    for head in range(3):
        found = texts(browser, f".panel:nth-child({head + 1}) .keys small")
        assert found == percents(maps["encoder"].weights_LHTS[1, [head], 5])
    assert browser.evaluate("document.querySelectorAll('.word.active').length") == 3
    # What was clicked stays, until it is clicked again.
    browser.hover("h1")
    assert texts(browser, "#readout h2") == ["made looks at"]
    browser.click("#layers label:nth-child(1) input")
    assert texts(browser, "#readout h2") == ["made looks at"]
    browser.click(f".panel:nth-child(1) {word('query', 5)}")
    browser.hover("h1")
    assert texts(browser, "#readout h2") == []
    browser.click("#none")
    assert texts(browser, "#panels") == ["No head is chosen."]
    browser.click("#all")
    assert texts(browser, ".panel h2") == ["head 1", "head 2", "head 3"]


@pytest.mark.needs("browser")
def test_everything_can_be_done_with_the_keys(page):
    maps = make_maps()
    browser = page(maps)

    def focused():
        return browser.evaluate("document.activeElement.value || document.activeElement.innerText")

    def outlined():
        return browser.evaluate(
            """(() => { const found = document.activeElement;
                const seen = found.matches("input") ? found.nextElementSibling : found;
                return getComputedStyle(seen).outlineStyle; })()"""
        )

    browser.press("Tab")
    assert (focused(), outlined()) == ("encoder", "solid")
    browser.press("ArrowRight", "ArrowRight")
    assert focused() == "cross"
    assert texts(browser, ".queries bdi") == TARGET
    browser.press("Tab")
    assert focused() == "1"
    browser.press("ArrowLeft")
    assert browser.evaluate("document.querySelector('#layers input:checked').value") == "0"
    browser.press("Tab", "Tab", " ")
    assert outlined() == "solid"
    browser.press("Tab", "Tab", "Tab", "Tab")
    assert focused() == "together"
    browser.press("Tab")
    assert focused().strip() == "In"
    browser.press("ArrowDown", "ArrowDown")
    assert outlined() == "solid"
    weights_HS = maps["cross"].weights_LHTS[0, [0, 2], 2]
    assert texts(browser, "#readout h2") == ["beginning looks at"]
    assert texts(browser, ".keys small") == percents(weights_HS)
    browser.press("ArrowRight")
    assert texts(browser, "#readout h2") == ["bigyn is looked at by"]
    browser.press("End")
    assert texts(browser, "#readout h2") == ["</s> is looked at by"]
    browser.press("ArrowLeft", "ArrowUp", "Enter")
    assert texts(browser, "#readout h2") == ["heaven looks at"]
    assert browser.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    # One stop for all the words, so that the way through the page is short.
    browser.press("Tab")
    assert browser.evaluate("document.activeElement === document.body")
    assert texts(browser, "#readout h2") == ["heaven looks at"]
    browser.press("Tab", "Escape")
    assert texts(browser, "#readout h2") == []


@pytest.mark.needs("browser")
def test_hostile_words_are_shown_and_do_nothing(page):
    browser = page({"cross": make_map(HOSTILE, HOSTILE)}, source=HOSTILE[0], target=HOSTILE[3])
    assert texts(browser, ".keys bdi") == HOSTILE
    assert texts(browser, "#source, #target") == [HOSTILE[0], HOSTILE[3]]
    browser.click(word("query", 0))
    assert texts(browser, "#readout h2") == [f"{HOSTILE[0]} looks at"]
    assert browser.evaluate("[window.hurt, document.images.length]") == [None, 0]


@pytest.mark.needs("browser")
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_has_room_for_it(page, tmp_path, dark):
    long = [*SOURCE[:5], "Donaudampfschifffahrtsgesellschaftskapitän"]
    maps = {"cross": make_map(long, long, layers=6, heads=8)}
    browser = page(maps, source="a " * 60, width=360, height=740, dark=dark, phone=True)
    for view in ("together", "apart"):
        browser.tap(f"input[value={view}]")
        browser.tap(word("query", 2))
        assert texts(browser, "#readout h2") == ["bigyn looks at"]
        assert long[-1] in texts(browser, "#readout")[0]
        assert browser.evaluate(
            "document.querySelector('#readout').scrollWidth <= "
            "document.querySelector('#readout').clientWidth"
        )
        browser.tap(word("query", 2))
        assert texts(browser, "#readout h2") == []
        assert browser.evaluate("document.documentElement.scrollWidth") == 360
    # A finger needs 24 pixels at least.
    sizes = browser.evaluate(
        """[...document.querySelectorAll("label, button")].map(found => {
            const box = found.getBoundingClientRect(); return Math.min(box.width, box.height); })"""
    )
    assert min(sizes) >= 24
    browser.screenshot(tmp_path / "a.png")
    corner = image.imread(tmp_path / "a.png")[2, 2, :3]
    assert corner.mean() < 0.2 if dark else corner.mean() > 0.9
