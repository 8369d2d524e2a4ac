"""The subjects of a VCF, judged by what is declared of their attributes.

Pure. A subject's attributes come with its last part, after all sites are read, so that they are
judged once and for the whole subject; the variants of one that is refused go with it. Of required
attributes only what a VCF feeds has to be there: the others come from other files.
"""

from collections.abc import Callable, Iterator

from cvf_app.pipelines.checking import Checker, refusals_of
from cvf_app.pipelines.content import subjects_of
from cvf_app.pipelines.model import Refusal
from cvf_app.pipelines.portion import MOST_BYTES, MOST_PARTS, Portion
from cvf_app.pipelines.vcf import Vcf
from cvf_app.wire import encode


def called(
    vcf: Vcf, filename: str, checker: Checker, enough: Callable[[], bool]
) -> Iterator[Portion]:
    """Yield what a VCF gives, many parts at a time; `enough` says where its head ends.

    Raises:
        Unreadable: the content is broken; the sentence says where.
    """
    batch = _Batch()
    told = 0
    for part in subjects_of(vcf, filename, enough):
        if not part.eav:
            batch.add(part.subject_id, encode(part))
        else:
            judged, faults = checker.admit(part)
            place = part.subject_id
            batch.refusals += refusals_of(faults, vcf.names_line, place, kept=judged is not None)
            if judged is None:
                batch.left_out.append(place)
            else:
                batch.add(place, encode(judged))
        if batch.full:
            yield batch.portion(vcf.read_sites - told)
            batch, told = _Batch(), vcf.read_sites
    yield batch.portion(vcf.read_sites - told)


class _Batch:
    """Some parts, and what was refused among them."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._bodies: list[bytes] = []
        self._size = 0
        self.refusals: list[Refusal] = []
        self.left_out: list[str] = []

    @property
    def full(self) -> bool:
        many = len(self._ids) + len(self.left_out)
        return many >= MOST_PARTS or self._size >= MOST_BYTES

    def add(self, subject: str, body: bytes) -> None:
        self._ids.append(subject)
        self._bodies.append(body + b"\n")
        self._size += len(body)

    def portion(self, rows: int) -> Portion:
        return Portion(
            ids=self._ids,
            sizes=[len(body) for body in self._bodies],
            bodies=b"".join(self._bodies),
            rows=rows,
            refusals=self.refusals,
            left_out=self.left_out,
        )
