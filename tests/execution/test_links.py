"""Messages between two processes: how many are under way at once."""

import pytest
import torch
import torch.distributed as dist

from costate.execution.messages import Outbox


class Work:
    """A message that has left when somebody waits for it."""

    under_way = 0

    def __init__(self) -> None:
        Work.under_way += 1

    def wait(self) -> None:
        Work.under_way -= 1


@pytest.mark.parametrize("window", [1, 2, 5])
def test_no_more_messages_are_under_way_than_the_window_has_room_for(monkeypatch, window):
    most = []

    def isend(tensor: torch.Tensor, peer: int, group: None) -> Work:
        work = Work()
        most.append(Work.under_way)
        return work

    monkeypatch.setattr(dist, "isend", isend)
    outbox = Outbox(1, None, window)
    for _ in range(8):
        outbox.send((torch.zeros(3),))
    assert most == [min(n, window) for n in range(1, 9)]
    outbox.room()
    assert Work.under_way == window - 1, "room is for one more"
    outbox.flush()
    assert Work.under_way == 0
