"""The data folder is private, and its files are whole."""

import os

from cvf_app.local.layout import Layout, LocalState, Ports, read, write


class TestLayout:
    def test_folders_and_files_are_for_the_owner_alone(self, tmp_path):
        before = os.umask(0)
        try:
            layout = Layout(tmp_path / "instance")
            layout.make()
            write(layout.state, LocalState(ports=Ports(app=1, database=2, identity=3)))
        finally:
            os.umask(before)
        for folder in (layout.folder, layout.secrets, layout.logs, layout.run, layout.uploads):
            assert folder.stat().st_mode & 0o777 == 0o700
        assert layout.state.stat().st_mode & 0o777 == 0o600

    def test_what_is_written_is_read_again(self, tmp_path):
        state = LocalState(ports=Ports(app=1, database=2, identity=3), installed=True)
        write(tmp_path / "state.json", state)
        assert read(tmp_path / "state.json", LocalState) == state
        assert read(tmp_path / "none.json", LocalState) is None

    def test_a_deep_folder_gets_a_socket_with_a_short_path(self, tmp_path):
        assert len(str(Layout(tmp_path / ("deep" * 50)).valkey_socket)) < 104
