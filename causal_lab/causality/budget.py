"""How much work may be done, how much is left, and a bar that shows it."""

import sys
import time


class TimeIsUpError(Exception):
    """The time that was given is over."""


class Budget:
    """Counts work against the time that is given for it.

    Args:
        seconds: of all work; no limit if not given.
        bar: whether to show on stderr how far the work has come.
    """

    def __init__(self, seconds: float | None = None, bar: bool = False):
        self.seconds, self.bar, self.is_over = seconds, bar, False
        self.start, self._shown = time.monotonic(), 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def spend(self, what: str = "", done: int = 0, of: int = 0) -> None:
        """Do one piece of work more.

        Args:
            what: for the bar, with how much of it is done, of how much.

        Raises:
            TimeIsUpError: if there is no time for it.
        """
        if self.seconds is not None and self.spent >= self.seconds:
            self.is_over = True
            raise TimeIsUpError(f"after {self.seconds:g} s")
        if self.bar and of and self.spent - self._shown > 0.2:
            self._shown = self.spent
            full = 20 * done // of
            sys.stderr.write(f"\r{'█' * full}{'·' * (20 - full)} {what} {done}/{of} ")
            sys.stderr.flush()

    def close(self) -> None:
        """Wipe the bar off."""
        if self.bar and self._shown:
            sys.stderr.write("\r" + " " * 60 + "\r")
