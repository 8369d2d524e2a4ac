"""A virtual environment is complete when its mark holds the digest of its requirements."""

import sys

import pytest

from cvf_app.local.environment import INSTALLER, MARK, CannotPrepare, Wanted, make


class TestWanted:
    def test_changed_requirements_make_it_incomplete(self, tmp_path):
        file = tmp_path / "requirements.txt"
        file.write_text("a==1")
        wanted = Wanted(folder=tmp_path / "venv", requirements=(file,))
        wanted.python.parent.mkdir(parents=True)
        wanted.python.touch()
        assert not wanted.is_complete()
        (wanted.folder / MARK).write_text(wanted.digest)
        assert wanted.is_complete()
        file.write_text("a==2")
        assert not wanted.is_complete()


class TestMake:
    @pytest.fixture
    def wanted(self, tmp_path):
        """An environment that has a Python already, and files that name nothing."""
        wanted = Wanted(folder=tmp_path / "venv", requirements=(tmp_path / "requirements.txt",))
        wanted.python.parent.mkdir(parents=True)
        wanted.python.symlink_to(sys.executable)
        wanted.requirements[0].touch()
        return wanted

    def test_pip_installs_where_uv_cannot_be_had(self, wanted):
        wanted.requirements[0].with_name(INSTALLER).write_text("./absent.whl")
        make(wanted)
        assert wanted.is_complete()

    def test_what_nothing_can_install_is_told_with_its_file(self, wanted):
        wanted.requirements[0].write_text("./absent.whl")
        with pytest.raises(CannotPrepare, match=r"absent\.whl"):
            make(wanted)
        assert not wanted.is_complete()
