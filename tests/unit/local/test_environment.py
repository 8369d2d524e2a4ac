"""A virtual environment is complete when its mark holds the digest of its requirements."""

from cvf_app.local.environment import MARK, Wanted


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
