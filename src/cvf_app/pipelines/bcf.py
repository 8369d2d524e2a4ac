"""BCF, the binary form of VCF, as lines of VCF; only with the extra `bcf` (pysam) installed.

The same scanner reads them, so both forms of one content give the same subjects.
"""

from collections.abc import Iterator
from typing import BinaryIO

from cvf_app.pipelines.model import Unreadable


def lines_of_bcf(file: BinaryIO) -> Iterator[bytes]:
    """Yield the header and the records of a BCF as lines of text.

    Raises:
        Unreadable: the extra is not installed, or the file is broken.
    """
    try:
        # Only whoever has such files needs the library, and it does not exist for Windows.
        import pysam  # noqa: PLC0415 - see above
    except ImportError as fault:
        raise Unreadable(
            "BCF needs the package pysam (the extra `bcf`) where jobs run: install it, or send the"
            " file as VCF."
        ) from fault
    pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(file.name) as content:
            for line in str(content.header).splitlines():
                yield line.encode()
            for record in content:
                yield str(record).encode()
    except (ValueError, OSError) as fault:
        raise Unreadable(f"This BCF cannot be read: {fault}.") from fault
