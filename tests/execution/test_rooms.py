"""Who has room for which states, as a table."""

import pytest

from costate.execution.messages import Rooms


def played(window: int, batches: int, asked: int | None = None, sizes: list[int] | None = None) -> list[list[int]]:
    """Behind each batch, the batches that there is room for; until all stop."""
    rooms, promised, found = Rooms(window), 0, []
    for n in range(batches):
        promised = max(promised, n)
        rooms.take(n, 8 if sizes is None else sizes[n])
        promised += rooms.make(n, 8 if sizes is None else sizes[n], batches - 1 - n, asked is not None and n >= asked)
        found.append([*range(n + 1, promised + 1)])
        if rooms.stopping:
            break
    return found


TABLE = [
    (1, None, [[1], [2], [3], [4], [5], []]),
    (2, None, [[1, 2], [2, 3], [3, 4], [4, 5], [5], []]),
    (9, None, [[1, 2, 3, 4, 5], [2, 3, 4, 5], [3, 4, 5], [4, 5], [5], []]),
    (1, 1, [[1], []]),
    (2, 1, [[1, 2], [2], []]),
    (4, 3, [[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5], [4, 5], [5], []]),
]


@pytest.mark.parametrize(("window", "asked", "expected"), TABLE)
def test_there_is_room_for_a_window_and_for_nothing_behind_the_batch_to_stop_at(window, asked, expected):
    assert played(window, 6, asked) == expected


def test_a_smaller_batch_has_the_room_of_one_before_it_and_a_larger_one_none():
    rooms = Rooms(2)
    found = []
    for n, rows in enumerate((20, 7, 7, 3)):
        found.append(rooms.take(n, rows))
        rooms.make(n, rows, 3 - n, asked=False)
    assert found == [20, 20, 20, 7]
    rooms.make(4, 3, 1, asked=False)
    with pytest.raises(ValueError, match="Batch 5 has 4 rows, one before it 3"):
        rooms.take(5, 4)
