"""The rules by which asynchronous roles wait for each other, played by a scheduler that lets any role run at any time.

No processes and no tensors: a role is a generator that says what it waits for, and messages lie about for as long as
the scheduler likes, in the order of sending.
"""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from costate.execution.asynchronous.oracle import Feed, Gate, Message
from costate.execution.clock import BINS, Histogram

Wait = Callable[[], bool]


class World:
    """K stages and the synthesizers between them, as `costate.execution.asynchronous` connects them."""

    def __init__(self, stages: int, steps: int, lag: int, ahead: int, places: int, replay: int, dedicated: bool):
        self.stages, self.steps, self.lag, self.ahead, self.dedicated = stages, steps, lag, ahead, dedicated
        boundaries = range(stages - 1)
        self.feeds = [Feed(places, replay, ahead, lag + ahead) for _ in boundaries]
        self.lessons = [Feed(places, replay, ahead, lag + ahead) for _ in boundaries]
        self.gates = [Gate(lag, ahead) for _ in boundaries]
        self.under_way: dict[Feed, deque[Message]] = defaultdict(deque)
        self.events: list[tuple[str, int, int]] = []
        self.sent: dict[Feed, int] = defaultdict(int)
        for gate in self.gates:
            gate.start(0)

    def roles(self) -> list[Iterator[Wait]]:
        own = [self.role(k) for k in range(self.stages)]
        return [*own, self.oracle()] if self.dedicated else own

    def send(self, feed: Feed, number: int) -> None:
        self.sent[feed] += 1
        self.under_way[feed].append(Message(number, ()))

    def role(self, k: int) -> Iterator[Wait]:
        for n in range(self.steps):
            c, new = n, True
            if k > 0:
                feed = self.feeds[k - 1]
                yield partial(feed.ready, n)
                (c, _), new = feed.take()
            if k < self.stages - 1:
                gate = self.gates[k]
                yield partial(gate.opens, n)
                assert gate.staleness(n) <= self.lag + self.ahead
                gate.answered = n + 1
                self.send(self.feeds[k], n)
            self.events.append(("update", k, c))
            if k > 0 and new:
                self.send(self.lessons[k - 1], c)
            if k > 0 and not self.dedicated:
                yield from self.learn(n, [k - 1])

    def oracle(self) -> Iterator[Wait]:
        for n in range(self.steps):
            yield from self.learn(n, list(range(self.stages - 1)))

    def learn(self, n: int, boundaries: list[int]) -> Iterator[Wait]:
        numbers = {}
        for k in boundaries:
            yield partial(self.gates[k].due, n)
            if n >= self.lag:
                yield partial(self.lessons[k].ready, n - self.lag)
                (c, _), _ = self.lessons[k].take()
                numbers[k] = c
                self.events.append(("learn", k, c))
        yield lambda: True
        for k, c in numbers.items():
            self.gates[k].learnt = max(self.gates[k].learnt, c)

    def run(self, seed: int) -> None:
        chance = random.Random(seed)
        roles = {role: next(role) for role in self.roles()}
        while roles:
            able = [role for role, wait in roles.items() if wait()]
            links = [feed for feed, messages in self.under_way.items() if messages]
            assert able or links, "everybody waits for somebody"
            choice = chance.choice([*able, *links])
            if isinstance(choice, Feed):
                choice.put(self.under_way[choice].popleft())
                continue
            try:
                roles[choice] = next(choice)
            except StopIteration:
                del roles[choice]


@st.composite
def worlds(draw: st.DrawFn, strict: bool = False) -> World:
    lag = draw(st.integers(0, 2))
    ahead = 0 if strict else draw(st.integers(0, 5))
    least = lag + 1 if ahead == 0 else 1
    return World(
        stages=draw(st.integers(2, 4)),
        steps=draw(st.integers(1, 12)),
        lag=lag,
        ahead=ahead,
        places=draw(st.integers(least, 6)),
        replay=draw(st.integers(1, 4)),
        dedicated=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(0, 2**32))
def test_nobody_waits_for_ever_and_nothing_is_older_than_allowed(world, seed):
    world.run(seed)
    for feed in (*world.feeds, *world.lessons):
        assert feed.staleness.most <= world.lag + world.ahead
        assert feed.received + len(world.under_way[feed]) == world.sent[feed], "no message is lost"
        assert feed.received == feed.taken + feed.dropped + len(feed.waiting)
        assert len(feed.waiting) <= feed.places
        assert sum(feed.staleness.counts) == feed.taken + feed.replayed


@settings(max_examples=40, deadline=None)
@given(worlds(strict=True), st.integers(0, 2**32))
def test_without_slack_every_role_plays_the_schedule_of_the_pipeline(world, seed):
    world.run(seed)
    for k in range(world.stages):
        assert [c for name, own, c in world.events if (name, own) == ("update", k)] == list(range(world.steps))
    for k in range(world.stages - 1):
        learnt = [c for name, own, c in world.events if (name, own) == ("learn", k)]
        assert learnt == list(range(world.steps - world.lag))
        # Before the stage's update n the synthesizer has learnt from n - 1 - lag and from nothing later.
        n = 0
        newest = -1
        for name, own, c in world.events:
            if (name, own) == ("update", k):
                n = c
            if (name, own) == ("learn", k):
                newest = c
                assert c <= n - world.lag, "learnt before the stage had its answer"
        assert newest == world.steps - 1 - world.lag or world.steps <= world.lag
    for feed in (*world.feeds, *world.lessons):
        assert feed.replayed == feed.dropped == 0


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_a_full_queue_drops_its_oldest_message_and_counts_it(puts, places):
    feed = Feed(places, replay=1, ahead=0, age=100)
    taken = []
    for number, put in enumerate(puts):
        if put:
            feed.put(Message(number, ()))
        elif feed.waiting:
            taken.append(feed.take()[0].number)
    assert taken == sorted(taken)
    assert feed.received == sum(puts) == feed.taken + feed.dropped + len(feed.waiting)
    assert len(feed.waiting) <= places


def test_a_role_ahead_of_its_feed_trains_on_old_messages_within_its_bound():
    feed = Feed(places=4, replay=2, ahead=3, age=3)
    assert not feed.ready(0), "nothing has come"
    feed.put(Message(0, ()))
    taken = []
    n = 0
    while feed.ready(n):
        taken.append(feed.take())
        n += 1
    assert [new for _, new in taken] == [True, False, False, False]
    assert feed.replayed == 3


def test_what_is_too_old_is_dropped_and_counted():
    feed = Feed(places=8, replay=2, ahead=1, age=2)
    for number in range(6):
        feed.put(Message(number, ()))
    assert [m.number for m in feed.waiting] == [3, 4, 5]
    assert feed.dropped == 3


def test_bins_of_staleness():
    histogram = Histogram()
    for number in (0, 0, 1, 2, 3, 4, 31, 32, 1000):
        histogram.add(number)
    assert dict(zip(BINS, histogram.counts, strict=True)) == {
        "0": 2,
        "1": 1,
        "2-3": 2,
        "4-7": 1,
        "8-15": 0,
        "16-31": 1,
        "32+": 2,
    }
    assert histogram.most == 1000
    rows = histogram.rows("stage/1")
    assert rows["stage/1/staleness_most"] == 1000
    assert sum(rows[f"stage/1/staleness_{name}"] for name in BINS if f"stage/1/staleness_{name}" in rows) == 1
