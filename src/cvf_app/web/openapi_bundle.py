"""One OpenAPI document out of the many files of `openapi/`; pure but for reading those files.

Promises: every relative `$ref` becomes a `$ref` inside the document, or, for a path, its
content; names of components are the names of their files; nothing is fetched from elsewhere.
"""

import json
from pathlib import Path
from typing import Any

from cvf_app.errors import Invalid

_PACKAGED = Path(__file__).resolve().parents[1] / "openapi"
# In a checkout it stands at the root; a wheel and a binary carry it inside the package.
FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).resolve().parents[3] / "openapi"
_SECTIONS = {
    "schemas": "schemas",
    "enums": "schemas",
    "parameters": "parameters",
    "responses": "responses",
    "security_schemes": "securitySchemes",
}


def bundle(top: Path) -> dict[str, Any]:
    """Read a top file and all that it refers to as one document.

    Raises:
        Invalid: a file is missing, is no JSON, or two components of a kind share a name.
    """
    document: dict[str, Any] = _read(top)
    work = _Work(document.pop("components", {}))
    paths = document.pop("paths", {})
    document["paths"] = {path: work.inline(item, top.parent) for path, item in paths.items()}
    schemes = work.given.get("securitySchemes", {})
    for name, scheme in schemes.items():
        work.components.setdefault("securitySchemes", {})[name] = work.inline(scheme, top.parent)
    document["components"] = {
        section: dict(sorted(parts.items())) for section, parts in sorted(work.components.items())
    }
    return document


class _Work:
    """Components found so far, and the file that each came from."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.components: dict[str, dict[str, Any]] = {}
        self._origin: dict[tuple[str, str], Path] = {}

    def inline(self, value: Any, folder: Path) -> Any:  # noqa: ANN401 - any JSON value
        """Return the content that a `$ref` names, with its own references resolved."""
        if isinstance(value, dict) and set(value) == {"$ref"}:
            file = (folder / value["$ref"]).resolve()
            return self._walk(_read(file), file.parent)
        return self._walk(value, folder)

    def _walk(self, value: Any, folder: Path) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, list):
            return [self._walk(item, folder) for item in value]
        if not isinstance(value, dict):
            return value
        walked = {key: self._walk(item, folder) for key, item in value.items()}
        target = value.get("$ref")
        if isinstance(target, str):
            walked["$ref"] = self._point(target, folder)
        chosen = value.get("discriminator")
        if isinstance(chosen, dict) and "mapping" in chosen:
            walked["discriminator"]["mapping"] = {
                tag: self._point(target, folder) for tag, target in chosen["mapping"].items()
            }
        return walked

    def _point(self, target: str, folder: Path) -> str:
        """Take a file in as a component and return the reference to it."""
        if target.startswith("#"):
            return target
        file = (folder / target).resolve()
        section = _SECTIONS.get(file.parent.name)
        if section is None:
            raise Invalid(f"{target} in {folder} is no component.", path="$ref")
        known = self._origin.setdefault((section, file.stem), file)
        if known != file:
            raise Invalid(f"{known} and {file} would be one component.", path="$ref")
        parts = self.components.setdefault(section, {})
        if file.stem not in parts:
            parts[file.stem] = {}  # a schema may refer to itself
            parts[file.stem] = self._walk(_read(file), file.parent)
        return f"#/components/{section}/{file.stem}"


def _read(file: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(file.read_bytes())
    except OSError as fault:
        raise Invalid(f"There is no readable file {file}.", path="$ref") from fault
    except ValueError as fault:
        raise Invalid(f"{file} is not valid JSON: {fault}.", path="$") from fault
