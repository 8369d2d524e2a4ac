"""Data in over a bad line, with a bad operator, watched: exact in the end, and nothing half done.

Starts a fresh local instance in a temporary folder. Synthetic phenopackets and a large CSV, a
thousandth of whose rows is bad, are uploaded in pieces that are broken off at random, repeated and
reordered. Copies of the CSV with broken quoting and with a gap in the encoding are refused whole,
with the line. One job is stopped by its memory limit, one is cancelled, and while the last one
runs the app is killed (KILL) twice, in different stages; until that job is done the source answers
what it held before. A headless Chromium watches all of it on a page fed by `GET /updates`;
pictures of it are kept in a folder that is printed.

In the end every count is asked by query, the refused rows are downloaded and must be exactly those
that were planted, and the disk and the database must hold nothing that does not answer. Prints a
table of checks and exits 1 if any failed. `--corrupt` makes one expectation wrong, to prove that
this demonstration can fail; each run proves it on a copy as well.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from cvf_app.console.failures import Failure  # noqa: E402 - after the path above
from scripts.demo.checks import Checks  # noqa: E402
from scripts.demo.course import BUDGET, SIZES, Course  # noqa: E402
from scripts.demo.inputs import Inputs  # noqa: E402
from scripts.demo.instance import Breach, Instance  # noqa: E402
from scripts.demo.watched import Browser, PageServer, chromium  # noqa: E402

_SECONDS = 900.0
_SECONDS_PER_MIB = 5.0
_HEADERS = ("Authorization", "Content-Type", "X-Upload-Token", "Prefer", "Last-Event-ID")


def show(instance: Instance, folder: Path, given: argparse.Namespace) -> Checks:
    """Bring the instance up, open the page, and go through the course."""
    begin = time.monotonic()
    inputs = Inputs.make(folder, given.people, given.csv_mib)
    size, bad = inputs.table.stat().st_size / 2**20, len(inputs.planted.refused)
    print(f"{size:.0f} MiB of CSV with {bad} bad rows in {time.monotonic() - begin:.1f} s")
    instance.up()
    page = PageServer(lambda: instance.server().address, instance.token)
    browser = None
    course = Course(instance, inputs, _SECONDS + _SECONDS_PER_MIB * given.csv_mib)
    try:
        heard = {"AllowOrigin": [page.origin], "AllowHeaders": list(_HEADERS)}
        instance.configure({"CORS": heard, "Jobs": BUDGET | {"Sizes": SIZES}})
        program = chromium()
        if program is None:
            print("There is no Chromium on this machine: nobody watches, no picture is kept.")
        else:
            browser = course.browser = Browser(program, page.origin)
            given.pictures.mkdir(parents=True, exist_ok=True)
            print(f"pictures of the page: {given.pictures}", flush=True)
        if given.corrupt:
            course.corrupted()
        course.run(given.pictures)
        course.page()
        course.look_around()
    finally:
        if browser is not None:
            browser.close()
        page.stop()
    told = course.suffered
    print(
        f"{told.bytes / 2**20:.0f} MiB sent in {told.pieces} pieces: {told.cut} cut off in"
        f" mid-body, {told.again} sent twice, {told.reordered} out of order"
    )
    print(f"{time.monotonic() - begin:.0f} s in all")
    return course.checks


def main() -> int:
    """Run the demonstration in a temporary folder, and leave nothing of it but the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--csv-mib", type=int, default=1024, help="size of the CSV")
    options.add_argument("--people", type=int, default=10_000, help="phenopackets")
    options.add_argument("--corrupt", action="store_true", help="make one expectation wrong")
    options.add_argument("--keep", action="store_true", help="leave the instance running")
    options.add_argument(
        "--pictures", type=Path, default=ROOT / "build" / "demo-3", help="where pictures go"
    )
    given = options.parse_args()
    # A TERM ends it like an interrupt, so that the instance is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="cv3-data-in-"))
    instance = Instance(folder)
    try:
        checks = show(instance, folder, given)
    except (Breach, Failure) as fault:
        print(f"BREACH: {fault}")
        return 1
    finally:
        if given.keep:
            print(f"The instance is left running in {instance.layout.folder}.")
        else:
            instance.stop()
            shutil.rmtree(folder, ignore_errors=True)
    checks.table()
    print(f"{checks.failed} of {len(checks.done)} checks failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
