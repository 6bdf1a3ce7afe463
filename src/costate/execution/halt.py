"""How roles that are at different updates agree on one behind which all of them stop.

Whoever is asked to stop tells one rank; it holds all roles where they are, takes the furthest one's next update, and
lets them go on to that one. Held roles answer and receive as ever, so nobody waits for ever.
"""

import threading
from collections.abc import Callable
from typing import final


@final
class Halt:
    """One role's part in it.

    Args:
        bell: rung when the role may go on.

    Attributes:
        end: the last update, if one has been agreed on.
    """

    def __init__(self, bell: threading.Condition):
        self.bell = bell
        self.next = 0
        self.end: int | None = None
        self.held = self.arranged = False

    def begin(self, n: int, wait: Callable[[Callable[[], bool]], None]) -> None:
        """Update n is about to begin.

        Args:
            wait: for something that may happen.
        """
        with self.bell:
            self.next = n
            wait(lambda: not self.held)
            self.next = n + 1

    def hold(self) -> int:
        """Keeps the role from its next update, and says which one that is."""
        with self.bell:
            self.held = True
            return self.next

    def release(self, end: int) -> None:
        """Lets it go on, to update `end`."""
        with self.bell:
            self.end, self.held = end, False
            self.bell.notify_all()
