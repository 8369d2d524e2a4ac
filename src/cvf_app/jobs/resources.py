"""What jobs may use and do use, on every host that runs them, for people."""

from collections import Counter

from cvf_app.jobs.budget import Book
from cvf_app.jobs.ledger import Ledger
from cvf_app.jobs.model import Amount, HostResources, Resources, SizeLimits
from cvf_app.jobs.sizes import Sizes


class Hosts:
    """The hosts that run jobs."""

    def __init__(self, ledger: Ledger, sizes: Sizes) -> None:
        """Read the books of the ledger."""
        self._ledger = ledger
        self._sizes = sizes

    async def resources(self) -> Resources:
        """Return every host whose workers live, by name, and the sizes of jobs."""
        books = await self._ledger.books()
        return Resources(
            hosts=tuple(_host(book) for book in sorted(books, key=lambda book: book.host)),
            sizes={
                name: SizeLimits(
                    cores=limits.cores, memory_mib=limits.memory_mib, minutes=limits.seconds / 60
                )
                for name, limits in self._sizes.limits.items()
            },
            types=self._sizes.types,
        )


def _host(book: Book) -> HostResources:
    cores = sum(claim.cores for claim in book.held)
    memory = sum(claim.memory_mib for claim in book.held)
    return HostResources(
        host=book.host,
        enforcement=book.enforcement,
        limits=Amount(cores=book.cores, memory_mib=book.memory_mib),
        used=Amount(cores=cores, memory_mib=memory),
        available=Amount(
            cores=max(0, book.cores - cores), memory_mib=max(0, book.memory_mib - memory)
        ),
        running=dict(Counter(claim.size for claim in book.held)),
        waiting=dict(Counter(claim.size for claim in book.waiting)),
    )
