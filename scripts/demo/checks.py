"""A table of checks: what was wanted, what was found, and whether that is good."""

from dataclasses import dataclass, field

_WIDEST = 60


@dataclass
class Checks:
    """What was checked, in order; `table` prints it."""

    done: list[tuple[str, object, object, bool]] = field(default_factory=list)

    def equal(self, title: str, wanted: object, found: object) -> None:
        """Check that something is what it should be."""
        self.note(title, wanted, found, good=wanted == found)

    def note(self, title: str, wanted: object, found: object, *, good: bool) -> None:
        """Note a check that was made elsewhere."""
        self.done.append((title, wanted, found, good))
        if not good:
            print(f"FAILED: {title}: {wanted} wanted, {found} found", flush=True)

    def at_least(self, title: str, least: int, found: int) -> None:
        """Check that something is large enough."""
        self.note(title, f"at least {least}", found, good=found >= least)

    def same(self, title: str, wanted: object, found: object) -> None:
        """Check that two long things are equal, without printing them."""
        good = wanted == found
        self.note(title, "equal", "equal" if good else "DIFFER", good=good)

    @property
    def failed(self) -> int:
        """Return how many failed."""
        return sum(not good for *_, good in self.done)

    def table(self) -> None:
        """Print all."""
        width = max(len(title) for title, *_ in self.done)
        print(f"\n{'':{width}}  {'wanted':>22}  {'found':>22}")
        for title, wanted, found, good in self.done:
            cells = [str(each)[:_WIDEST] for each in (wanted, found)]
            print(f"{title:{width}}  {cells[0]:>22}  {cells[1]:>22}  {'OK' if good else 'FAILED'}")
