"""What an upload sends."""

import zipfile
from pathlib import Path

import pytest

from cvf_app.console.failures import Misused
from cvf_app.console.upload import multipart, pack


class TestPack:
    def test_a_folder_keeps_its_paths_and_leaves_links_out(self, tmp_path: Path) -> None:
        folder = tmp_path / "packets"
        (folder / "cohort").mkdir(parents=True)
        (folder / "cohort" / "a.json").write_text("{}")
        (folder / "link.json").symlink_to(folder / "cohort" / "a.json")
        (folder / ".hidden").write_text("x")
        pack(folder, tmp_path / "a.zip")
        with zipfile.ZipFile(tmp_path / "a.zip") as packed:
            assert packed.namelist() == ["cohort/a.json"]

    def test_the_same_folder_gives_the_same_bytes(self, tmp_path: Path) -> None:
        folder = tmp_path / "packets"
        folder.mkdir()
        (folder / "a.json").write_text("{}")
        pack(folder, tmp_path / "1.zip")
        (folder / "a.json").touch()
        pack(folder, tmp_path / "2.zip")
        assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(Misused):
            pack(tmp_path / "empty", tmp_path / "a.zip")


class TestMultipart:
    def test_fields_and_content_stand_between_boundaries(self) -> None:
        kind, body = multipart({"resumableChunkNumber": "1"}, b"\r\ncontent", 'a"b.csv')
        boundary = kind.partition("boundary=")[2].encode()
        assert body.count(b"--" + boundary) == 3
        assert b'filename="a%22b.csv"' in body
        assert b"\r\n\r\n\r\ncontent\r\n--" in body
