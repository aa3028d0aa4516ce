"""Packing: every pair has a place, and no row holds more than it has room for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.data.packing import _OpenRows, pack

LONGEST = (13, 17)


@st.composite
def classes(draw):
    """Classes of (source, target) lengths, how many pairs each has, and one or two row sizes."""
    length = st.tuples(*(st.integers(1, longest) for longest in LONGEST))
    lengths = draw(st.lists(length, min_size=1, max_size=20, unique=True))
    counts = draw(st.lists(st.integers(1, 30), min_size=len(lengths), max_size=len(lengths)))
    size = draw(st.tuples(*(st.integers(longest, 3 * longest) for longest in LONGEST)))
    small = draw(st.none() | st.tuples(*(st.integers(1, slots) for slots in size)))
    return np.array(lengths), np.array(counts), [size] if small is None else [small, size]


@given(classes())
def test_every_pair_has_a_place(problem):
    lengths, counts, sizes = problem
    packing = pack(lengths, counts, sizes)
    found = np.bincount(packing.place_class, minlength=len(lengths))
    np.testing.assert_array_equal(found, counts)


@given(classes())
def test_no_row_holds_more_than_it_has_room_for(problem):
    lengths, counts, sizes = problem
    packing = pack(lengths, counts, sizes)
    assert len(packing.rows) == len(sizes)
    for number, (size, rows) in enumerate(zip(sizes, packing.rows, strict=True)):
        places = packing.place_size == number
        filled = np.zeros((rows, 2), int)
        np.add.at(filled, packing.place_row[places], lengths[packing.place_class[places]])
        assert np.all(filled <= size)
        # A row that is there is used.
        assert np.all(filled > 0)


@given(classes())
def test_a_place_is_in_the_smallest_row_that_holds_it(problem):
    lengths, counts, sizes = problem
    packing = pack(lengths, counts, sizes)
    fits_small = np.all(lengths <= sizes[0], axis=1)
    # Short pairs may fill the larger rows up, but none of those is opened for them.
    largest_of_row = {}
    for size, row, number in zip(
        packing.place_size, packing.place_row, packing.place_class, strict=True
    ):
        largest_of_row.setdefault((size, row), []).append(fits_small[number])
    for (size, _), fits in largest_of_row.items():
        assert size == 0 or not all(fits)


def test_lengths_that_fit_together_leave_no_slot():
    packing = pack(np.array([[3, 5], [7, 5], [10, 10]]), np.array([40, 40, 10]), [(10, 10)])
    assert packing.rows == [50]


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_one_class_fills_its_rows(count):
    packing = pack(np.array([[2, 3]]), np.array([count]), [(11, 11)])
    # Three of them to a row; those of the last rows that were opened may share less well.
    assert -(-count // 3) <= packing.rows[0] <= -(-count // 3) + 1


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=12, max_size=60), st.data()
)
def test_the_tightest_room_is_the_one_that_a_search_of_all_finds(rooms, data):
    open_rows, left = _OpenRows(), []
    for number, room in enumerate(rooms):
        open_rows.put(np.array([number]), room)
        left.append(room)
        if data.draw(st.booleans()):
            taken = data.draw(st.sampled_from(left))
            open_rows.take(taken, 1)
            left.remove(taken)
        source, target = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        fitting = [room for room in left if room[0] >= source and room[1] >= target]
        expected = min(fitting, key=lambda room: (sum(room), room[0]), default=None)
        assert open_rows.tightest(source, target) == expected
