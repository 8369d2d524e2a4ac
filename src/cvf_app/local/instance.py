"""Which instance is meant: a folder of local mode, or a configuration of full mode."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cvf_app.errors import Invalid
from cvf_app.local.guard import Lock
from cvf_app.local.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance: its folder, and in full mode its configuration file."""

    folder: Path
    config: Path | None = None

    @property
    def layout(self) -> Layout:
        """Return the paths inside the folder."""
        return Layout(self.folder)

    @property
    def lock(self) -> Lock:
        """Return the lock of its guard."""
        return Lock(self.layout.lock)


def data_folder(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the folder of the local instance: given, CV3_DATA, else beside the script."""
    chosen = given or Path(
        environ.get("CV3_DATA") or Path(environ.get("CV3_HERE", ".")) / "instance"
    )
    return chosen.expanduser().resolve()


def find(given: Path | None, environ: Mapping[str, str]) -> Instance:
    """Return the instance that is meant: a local folder, or a configuration of full mode.

    Raises:
        Invalid: there is neither.
    """
    folder = data_folder(given, environ)
    app_folder, config = full_place(environ)
    local_is_meant = given is not None or "CV3_DATA" in environ
    if not local_is_meant and config.exists() and not (config.parent / "local.json").exists():
        return Instance(folder=app_folder, config=config)
    if not local_is_meant and config.exists():
        return Instance(folder=config.parent)
    if Layout(folder).state.exists():
        return Instance(folder=folder)
    raise Invalid(
        f"There is no instance in {folder} and no configuration at {config}. "
        "Make a local instance with: ./CafeVariome3.sh local, or name the configuration of a "
        "full one in CV3_CONFIG"
    )


def full_place(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Return the folder and the configuration that the environment names for full mode."""
    named, path = environ.get("CV3_CONFIG"), environ.get("CV3_APP_PATH")
    folder = Path(path or (Path(named).parent if named else ".")).expanduser().resolve()
    return folder, Path(named or folder / "instance_config.json").expanduser().resolve()
