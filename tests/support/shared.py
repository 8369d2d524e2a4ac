"""Where the shared folder with the large real data is, for the tests that want it."""

import os
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[3] / "shared"
_GIVEN = os.environ.get("CV3_TEST_SHARED")
_FOUND = Path(_GIVEN) if _GIVEN else _BESIDE
SHARED: Path | None = _FOUND if _FOUND.is_dir() else None
NO_SHARED = "the folder `shared` is not beside the checkout (or in CV3_TEST_SHARED)"
