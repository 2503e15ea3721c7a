"""Places that are taken and left again: so many in all, and so many of each name."""

from __future__ import annotations


class Places:
    """most, each: in all, and of one name; 0: no limit of that kind. An empty name has no limit of
    its own.
    """

    def __init__(self, most: int, each: int) -> None:
        self.most = most
        self.each = each
        self.taken = 0
        self._of: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether there is none left for anybody."""
        return bool(self.most) and self.taken >= self.most

    def full_for(self, name: str) -> bool:
        """Whether `name` has all of its own."""
        return bool(name and self.each) and self._of.get(name, 0) >= self.each

    def take(self, name: str) -> None:
        """One more, wherever the limits are."""
        self.taken += 1
        if name:
            self._of[name] = self._of.get(name, 0) + 1

    def leave(self, name: str) -> None:
        """One that was taken under this name."""
        self.taken -= 1
        if name:
            left = self._of[name] - 1
            if left:
                self._of[name] = left
            else:
                del self._of[name]
