"""What may be trained together: all that differs in nothing but values within the program."""

import copy

import pytest

from jaxformer.study.grouping import differences, group

BASE = {
    "model": {"d_model": 16, "num_heads": 2},
    "optimizer": {"learning_rate": 1.0, "warmup_steps": 20, "schedule": "a:b"},
    "train": {"seed": 0, "dropout_rate": 0.1, "label_smoothing": 0.1, "num_steps": 9},
}


def config(**changes):
    """Returns BASE with other values; model__d_model stands for model.d_model."""
    made = copy.deepcopy(BASE)
    for key, value in changes.items():
        name, field = key.split("__")
        made[name][field] = value
    return made


def test_seed_dropout_smoothing_rate_and_warm_up_may_differ():
    configs = [
        BASE,
        config(train__seed=1),
        config(train__dropout_rate=0.3, train__label_smoothing=0.0),
        config(optimizer__learning_rate=2.0, optimizer__warmup_steps=7),
    ]
    assert group(configs) == [[0, 1, 2, 3]]
    assert differences(configs) == []


@pytest.mark.parametrize(
    "change", [{"model__num_heads": 1}, {"optimizer__schedule": "c:d"}, {"train__num_steps": 8}]
)
def test_all_else_may_not(change):
    ((key, _),) = change.items()
    assert group([BASE, config(**change), config(train__seed=5)]) == [[0, 2], [1]]
    assert differences([BASE, config(**change)]) == [key.replace("__", ".")]


def test_a_setting_that_only_one_has_parts_them():
    more = config()
    more["model"]["extra"] = 1
    assert group([more, BASE]) == [[0], [1]]
    assert differences([more, BASE]) == differences([BASE, more]) == ["model.extra"]


def test_groups_come_in_the_order_of_their_first_members():
    configs = [
        config(model__d_model=16 + 2 * (number % 3), train__seed=number) for number in range(7)
    ]
    assert group(configs) == [[0, 3, 6], [1, 4], [2, 5]]
    assert group(configs, most=2) == [[0], [1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("most", "sizes"), [(None, [9]), (9, [9]), (8, [4, 5]), (4, [3, 3, 3]), (1, [1] * 9)]
)
def test_a_large_group_is_parted_evenly(most, sizes):
    groups = group([config(train__seed=seed) for seed in range(9)], most)
    assert [len(members) for members in groups] == sizes
    assert [member for members in groups for member in members] == list(range(9))


def test_nothing_is_no_group():
    assert group([]) == []


def test_groups_of_none_are_refused():
    with pytest.raises(ValueError, match="At most 0 members of a group leave no group"):
        group([BASE], most=0)
