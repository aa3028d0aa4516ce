"""Processes that are not about to do the same are told so, in one sentence."""

import dataclasses
import threading

import numpy as np
import pytest

from jaxformer.data.batching import BatchPlan
from jaxformer.data.encoded import Encoded, Sentences
from jaxformer.data.moses_bpe import train_moses_bpe
from jaxformer.io import environment
from jaxformer.io.hosts import channel
from jaxformer.run.comparison import compare, compare_data, compare_programs
from jaxformer.run.preparation import TrainingData, fingerprint
from tests.channels import channels_of, in_threads

FACTS = {"config": {"model": {"d_ff": 24}, "train": {"seed": 0}}, "vocabulary": "ab12"}


def compared(*facts):
    """Returns what `compare` raises in each process, None for nothing."""
    with channels_of(len(facts)) as channels:
        return in_threads(
            *[
                lambda known=known, channel=channel: compare(known, channel)
                for known, channel in zip(facts, channels, strict=True)
            ]
        )


def test_the_same_facts_are_passed():
    compare(FACTS, channel())
    assert compared(FACTS, FACTS, dict(reversed(FACTS.items()))) == [None] * 3


@pytest.mark.parametrize("odd", [1, 2])
def test_another_process_is_named_with_its_difference(odd):
    facts = [FACTS] * 3
    facts[odd] = {**FACTS, "config": {"model": {"d_ff": 20}, "train": {"seed": 0}}}
    for error in compared(*facts):
        assert isinstance(error, ValueError)
        assert str(error) == (
            f"Process {odd} on host-{odd} is not about to do what process 0 on host-0 is: "
            "config.model.d_ff is 20 there and 24 on process 0. Give all of them the same code, "
            "settings, text and workdir."
        )


def test_a_few_differences_are_told_and_the_rest_counted():
    few = {"e": 5}
    many = dict.fromkeys("abcde", 0)
    error, _ = compared(few, many)
    assert "a is 0 there and absent on process 0; b is 0" in str(error)
    assert "c is 0 there and absent on process 0; and 2 more. Give" in str(error)


def vocabulary(text):
    return train_moses_bpe([(text, text)], 3, source="en", target="de")


def encoded(*sentences):
    both = Sentences.from_lists([np.array(sentence, np.int32) for sentence in sentences])
    return Encoded(both, both)


def text_of(train, valid):
    lengths = train.source.lengths
    plan = BatchPlan(lengths, lengths, source_tokens=9, target_tokens=9)
    return TrainingData(train, 0, valid, plan, fingerprint(train))


VOCABULARY = vocabulary("a bee can do a bee")
TEXT = text_of(encoded([5, 6, 2], [7, 2]), encoded([5, 2]))


def assert_told(errors, odd, *differences):
    for error in errors:
        assert isinstance(error, ValueError)
        told = str(error)
        assert told.startswith(
            f"Process {odd} on host-{odd} is not about to do what process 0 on host-0 is: "
        )
        for difference in differences:
            assert difference in told
        assert told.count(" on process 0") == len(differences)


@pytest.mark.parametrize(
    ("name", "vocabulary", "text"),
    [
        ("vocabulary", vocabulary("an eel can go an eel"), TEXT),
        ("training text", VOCABULARY, text_of(encoded([5, 6, 2], [8, 2]), TEXT.valid)),
        ("validation text", VOCABULARY, dataclasses.replace(TEXT, valid=encoded([6, 2]))),
        ("validation text", VOCABULARY, dataclasses.replace(TEXT, valid=None)),
    ],
)
def test_another_vocabulary_or_text_on_one_host_is_named(name, vocabulary, text):
    def values(vocabulary, text):
        valid = f'"{fingerprint(text.valid)}"' if text.valid else "null"
        found = f'"{vocabulary.fingerprint}"', f'"{text.fingerprint}"', valid
        return dict(zip(("vocabulary", "training text", "validation text"), found, strict=True))

    read = [(VOCABULARY, TEXT), (VOCABULARY, TEXT), (vocabulary, text)]
    with channels_of(3) as channels:
        errors = in_threads(
            *[
                lambda found=found, channel=channel: compare_data(*found, channel)
                for found, channel in zip(read, channels, strict=True)
            ]
        )
    there, first = values(vocabulary, text)[name], values(VOCABULARY, TEXT)[name]
    assert_told(errors, 2, f"{name} is {there} there and {first} on process 0")


def test_the_same_vocabulary_and_text_are_passed():
    compare_data(VOCABULARY, TEXT, channel())
    with channels_of(2) as channels:
        again = vocabulary("a bee can do a bee"), text_of(TEXT.train, TEXT.valid)
        errors = in_threads(
            lambda: compare_data(VOCABULARY, TEXT, channels[0]),
            lambda: compare_data(*again, channels[1]),
        )
    assert errors == [None, None]


@pytest.mark.parametrize(
    ("source", "versions", "difference"),
    [
        (
            {"commit": "ab12", "dirty": False},
            {"jax": "0.10"},
            'code.git.commit is "cd34" there and "ab12" on process 0',
        ),
        (
            {"commit": "cd34", "dirty": True},
            {"jax": "0.10"},
            "code.git.dirty is false there and true on process 0",
        ),
        (
            {"commit": "cd34", "dirty": False},
            {"jax": "0.9"},
            'code.jax is "0.10" there and "0.9" on process 0',
        ),
    ],
)
def test_other_code_on_one_host_is_named(tmp_path, monkeypatch, source, versions, difference):
    # Each process asks about its own code; here they are threads of one.
    mine = threading.local()
    monkeypatch.setattr(environment, "package_source", lambda: mine.source)
    monkeypatch.setattr(environment, "versions", lambda: mine.versions)

    def process(source, versions, channel):
        mine.source, mine.versions = source, versions
        compare_programs(tmp_path, {"train": {"seed": 0}}, channel)

    other = {"commit": "cd34", "dirty": False}, {"jax": "0.10"}
    with channels_of(2) as channels:
        errors = in_threads(
            lambda: process(source, versions, channels[0]), lambda: process(*other, channels[1])
        )
    assert_told(errors, 1, difference)
