"""Write one OpenAPI file out of the many, for tools and for hosting.

`python scripts/bundle_openapi.py [openapi/openapi-all.json] [--out FILE]`; with `--check`
every top file is bundled and validated instead.
"""

import argparse
import json
from pathlib import Path

from openapi_spec_validator import validate

from cvf_app.web.openapi_bundle import FOLDER, bundle


def main() -> None:
    """Bundle the named top file and write it to a file or to standard output."""
    reader = argparse.ArgumentParser(description="One OpenAPI file out of the many.")
    reader.add_argument("top", nargs="?", type=Path, default=FOLDER / "openapi-all.json")
    reader.add_argument("--out", type=Path)
    reader.add_argument("--check", action="store_true")
    given = reader.parse_args()
    if given.check:
        for top in sorted(FOLDER.glob("openapi-*.json")):
            document = bundle(top)
            validate(document)
            print(f"{top.name}: {len(document['paths'])} paths, valid")
        return
    text = json.dumps(bundle(given.top.resolve()), indent=2, ensure_ascii=False) + "\n"
    if given.out is None:
        print(text, end="")
    else:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
