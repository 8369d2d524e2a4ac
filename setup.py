"""What `pyproject.toml` cannot say: the interface description stands at the root and goes along."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithDescription(build_py):
    """Copies `openapi/` into the package, where `web/openapi_bundle.py` looks first."""

    def run(self) -> None:
        """Build the package, then put the description inside."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "cvf_app" / "openapi"
            shutil.copytree(Path(__file__).parent / "openapi", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithDescription})
