"""A bounded, thread-safe memory of what was last read or united from mapped files."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from pyroaring import BitMap


class BitmapCache:
    """Keeps the bitmaps last used, up to a number of bytes; what it gives out is never changed."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes, and nothing larger than an eighth of that."""
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[BitMap, int]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    def get(self, name: Hashable, make: Callable[[], BitMap]) -> BitMap:
        """Return the bitmap of this name, making it if it is not there."""
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
                self._hits += 1
                return found[0]
            self._misses += 1
        # Made outside the lock: two threads may make the same, which costs time but no correctness.
        bitmap = make()
        self._put(name, bitmap)
        return bitmap

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def drain(self) -> tuple[int, int]:
        """Return how often something was there and was not, since the last call."""
        with self._lock:
            counted = self._hits, self._misses
            self._hits = self._misses = 0
            return counted

    @property
    def size(self) -> int:
        """How many bytes are kept, by estimate."""
        return self._bytes

    def _put(self, name: Hashable, bitmap: BitMap) -> None:
        # Arrays of two bytes a row and bitsets of 8 KiB a block bound what a bitmap occupies.
        size = 200 + min(2 * len(bitmap), 8192 * (1 + (bitmap.max() >> 16))) if bitmap else 200
        if size * 8 > self._limit:
            return
        with self._lock:
            if name in self._kept:
                return
            self._kept[name] = (bitmap, size)
            self._bytes += size
            while self._bytes > self._limit:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed
