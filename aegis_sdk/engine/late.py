"""What an engine makes of itself when it is first asked for, by whichever thread."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    late = cached_property
else:

    class late(cached_property):  # noqa: N801  # it is used as a decorator
        """A cached property that several threads may ask for at once: it is made by one of them.

        Each has a lock of its own, since what is made may wait for who is about to ask for another one.
        """

        def __init__(self, make):
            super().__init__(make)
            self._making = threading.RLock()

        def __get__(self, instance, owner=None):
            with self._making:
                return super().__get__(instance, owner)
