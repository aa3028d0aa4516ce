"""Processes that are not about to do the same are told so, in one sentence."""

import pytest

from jaxformer.io.hosts import channel
from jaxformer.run.comparison import compare
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
