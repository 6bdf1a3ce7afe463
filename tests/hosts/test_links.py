"""Links between hosts of this machine are as slow and as far as they are said to be, for as long as that is said."""

import subprocess
import sys

import pytest
import torch.distributed as dist

from costate.benchmarks.contest import Stages, launch, pace
from costate.benchmarks.hosts import Hosts, lacking
from costate.benchmarks.network import COARSE, METHODS
from costate.benchmarks.speed import nodes_of, setting_of

pytestmark = pytest.mark.thorough

EXCHANGE = """
import sys, time, torch
import torch.distributed as dist
from costate.benchmarks.hosts import Throttle, enter

rank, meeting, pid, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
throttle = eval(sys.argv[5])
enter(pid)
dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
message = torch.zeros(size // 4)

def exchange():
    dist.barrier()
    start = time.perf_counter()
    for turn in (0, 1):
        (dist.send if rank == turn else dist.recv)(message, 1 - rank)
    return time.perf_counter() - start

def seconds(on):
    dist.barrier()
    throttle(on)
    return min(exchange() for _ in range(3))

print([seconds(on) for on in (False, True, False, True, False)])
dist.barrier()
"""


LINKS = {"slow": (100.0, 0.0, 1_250_000, (0.15, 0.25)), "far": (None, 0.02, 4_000, (0.04, 0.08))}
"""Mb/s, seconds, bytes, and the least and most that they take there and back: 0.2 s on the slow link. On the far one
two ways, and up to one more: the first message waits for word that there is room, which travels while the barrier
before it ends, here or there first. A busy machine takes longer now and then, never less: of several times the least
counts."""


FOUR = 0.12
"""Seconds of a batch, more than where four are under way in a round trip of 0.3, and less than where two are."""


def seconds_a_batch(throttle, enough):
    """The least of a few times, for a busy machine takes longer; of no more than are needed to have enough."""
    throttle(True)
    coarse, taken = nodes_of({COARSE: METHODS[COARSE]})[COARSE], []
    while len(taken) < 5 and not any(seconds < enough for seconds in taken):
        dist.barrier()
        taken.append(pace(Stages(setting_of("w256d16", "balance=null"), coarse, lag=0), 0.5, 10).seconds)
    return min(taken)


def test_several_states_are_under_way_over_a_far_link():
    """A receiver that made room for one state at a time let one through in a round trip of 0.3 s.

    Four in each would be 0.075 s a batch, two 0.15; a batch was measured at 0.22 once, on a machine that did more.
    """
    if reason := lacking():
        pytest.skip(reason)
    with Hosts(2, 0.15) as hosts:
        networks = [hosts.network(name) for name in hosts.names]
        found = launch(2, 1, seconds_a_batch, hosts.throttle(), FOUR, networks=networks)
    assert 0.05 < found < FOUR, "four in a round trip"


@pytest.mark.parametrize(("rate", "delay", "size", "bounds"), LINKS.values(), ids=LINKS)
def test_a_link_is_slow_or_far_while_it_is_throttled(tmp_path, rate, delay, size, bounds):
    """A message there and back. A shaper that lets 128 kB through at once made 100 Mb/s as fast as none."""
    if reason := lacking():
        pytest.skip(reason)
    with Hosts(2, delay) as hosts:
        words = [str(size), repr(hosts.throttle(rate))]
        started = [sys.executable, "-c", EXCHANGE]
        programs = [
            subprocess.Popen(
                [*started, str(rank), str(tmp_path / "meeting"), str(hosts.network(name)), *words],
                env={"GLOO_SOCKET_IFNAME": Hosts.interface, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank, name in enumerate(hosts.names)
        ]
        told = [program.communicate(timeout=120)[0] for program in programs]
        assert [program.returncode for program in programs] == [0, 0]
    near, slow, between, again, after = eval(told[0])
    least, most = bounds
    assert max(near, between, after) < least / 2
    assert least <= min(slow, again) <= most
