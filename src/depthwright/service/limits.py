"""How often a key may ask for work."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from depthwright.errors import UserError


class TooManyRequests(UserError):
    """The key sent as many requests in the last minute as it may; it may try again in `seconds`."""

    def __init__(self, most: int, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"This key may send {most} requests a minute: try again in {seconds} s.")


class RateLimit:
    """A moving window of a minute for each key. Reading costs nothing; submissions and uploads count."""

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def spend(self, key_id: str) -> None:
        """Count one request of this key. Raises TooManyRequests."""
        if not self._most:
            return
        item = RateLimitItemPerMinute(self._most)
        if not self._limiter.hit(item, key_id):
            reset = self._limiter.get_window_stats(item, key_id).reset_time
            raise TooManyRequests(self._most, max(1, math.ceil(reset - time.time())))
