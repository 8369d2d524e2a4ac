"""What the single-file binary runs: the operator's words, `cvf …`, and what Python is asked for.

Our processes start others with `sys.executable -m MODULE` and `-c CODE`; in a binary that is the
binary itself, so it understands these two as Python does.
"""

import multiprocessing
import runpy
import sys

from cvf_app.__main__ import main as administer
from cvf_app.console.__main__ import main as console
from cvf_app.local.__main__ import main as operate

ADMINISTRATION = ("check-config", "install", "duties")


def main() -> int:
    """Do what the first word says."""
    word = sys.argv[1] if len(sys.argv) > 1 else "help"
    if word == "-m":
        module = sys.argv[2]
        sys.argv[:] = sys.argv[2:]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    if word == "-c":
        code = sys.argv[2]
        sys.argv[:] = ["-c", *sys.argv[3:]]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as Python's own -c
        return 0
    if word == "cvf":
        sys.argv[:] = ["cvf", *sys.argv[2:]]
        console()
        return 0
    if word in ADMINISTRATION:
        return administer(sys.argv[1:])
    return operate([word, *sys.argv[2:]])


if __name__ == "__main__":
    multiprocessing.freeze_support()
    sys.exit(main())
