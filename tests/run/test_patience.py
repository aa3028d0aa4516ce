"""When a training has stopped to get better."""

import json
import math

from jaxformer.io.record import to_json
from jaxformer.run.patience import Patience


def waits(patience, *values):
    for value in values:
        patience.see(value)
    return patience.waited, patience.is_spent


def test_evaluations_in_a_row_that_bring_nothing_spend_it():
    patience = Patience(2)
    assert waits(patience, 3.0, 2.0) == (0, False)
    assert waits(patience, 2.0) == (1, False)
    assert waits(patience, 1.9) == (0, False)
    assert waits(patience, 2.5, 1.95) == (2, True)


def test_what_is_not_a_number_brings_nothing():
    assert waits(Patience(3), math.nan, math.nan, math.inf) == (3, True)


def test_without_a_limit_it_is_never_spent():
    assert waits(Patience(0), 1.0, *[2.0] * 9) == (9, False)


def test_the_best_is_of_those_that_were_saved():
    patience = Patience(0)
    assert patience.saved_step is None
    patience.see_saved(4, 3.0)
    patience.see_saved(8, 2.0)
    patience.see_saved(12, 2.0)
    patience.see_saved(16, math.nan)
    assert (patience.saved_step, patience.saved_best) == (8, 2.0)


def test_what_an_older_version_kept_is_gone_on_with():
    patience = Patience.from_json(3, {"best": 1.5, "waited": 1})
    assert patience == Patience(3, 1.5, 1)
    # A newer one may know more.
    assert Patience.from_json(3, {"best": 1.5, "waited": 1, "slope": 2}) == patience


def test_it_goes_on_from_a_checkpoint():
    patience = Patience(3)
    patience.see(1.5)
    patience.see_saved(4, 1.5)
    patience.see(1.75)
    kept = json.loads(json.dumps(to_json(patience.to_json())))
    assert waits(Patience.from_json(3, kept), 1.6) == (2, False)
    assert Patience.from_json(1, kept).is_spent
    assert Patience.from_json(3, kept).saved_step == 4
    never = json.loads(json.dumps(to_json(Patience(1).to_json())))
    assert waits(Patience.from_json(1, never), 9.0) == (0, False)
