"""Write one OpenAPI file out of the many, for tools and for hosting.

`python scripts/bundle_openapi.py [openapi/openapi-all.json] [--out FILE]`
"""

import argparse
import json
from pathlib import Path

from cvf_app.web.openapi_bundle import FOLDER, bundle


def main() -> None:
    """Bundle the named top file and write it to a file or to standard output."""
    reader = argparse.ArgumentParser(description="One OpenAPI file out of the many.")
    reader.add_argument("top", nargs="?", type=Path, default=FOLDER / "openapi-all.json")
    reader.add_argument("--out", type=Path)
    given = reader.parse_args()
    text = json.dumps(bundle(given.top.resolve()), indent=2, ensure_ascii=False) + "\n"
    if given.out is None:
        print(text, end="")
    else:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
