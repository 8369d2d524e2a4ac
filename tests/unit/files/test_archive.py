"""Which zip archives are not to be trusted."""

import stat
import zipfile
from pathlib import Path

import pytest

from cvf_app.errors import Invalid
from cvf_app.files.archive import is_content, judge


def entry(
    name: str, *, size: int = 10, packed: int = 10, mode: int = 0, kind: int = zipfile.ZIP_DEFLATED
) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.file_size, info.compress_size = size, packed
    info.external_attr = mode << 16
    info.compress_type = kind
    return info


class TestJudge:
    @pytest.mark.parametrize("name", ["a.csv", "folder/a.csv", "a b/ü.json", "folder/"])
    def test_plain_files_in_folders_pass(self, name: str) -> None:
        judge([entry(name)], 100)

    @pytest.mark.parametrize(
        ("info", "says"),
        [
            (entry("../a.csv"), "leads out"),
            (entry("a/../../b.csv"), "leads out"),
            (entry("a\\..\\..\\b.csv"), "leads out"),
            (entry("/etc/passwd"), "absolute"),
            (entry("C:\\a.csv"), "absolute"),
            (entry("a.csv\0.exe"), "absolute"),
            (entry("link.csv", mode=stat.S_IFLNK | 0o777), "link"),
            (entry("pipe.csv", mode=stat.S_IFIFO), "link"),
            (entry("a.csv", kind=zipfile.ZIP_LZMA), "packed"),
            (entry("inner.zip"), "inside"),
            (entry("inner.tar"), "inside"),
            (entry("zeros.csv", size=10 * 2**30, packed=10 * 2**20), "bomb"),
        ],
    )
    def test_what_is_not_to_be_trusted_is_refused(self, info: zipfile.ZipInfo, says: str) -> None:
        with pytest.raises(Invalid, match=says):
            judge([info], 2**30)

    def test_an_encrypted_entry_is_refused(self) -> None:
        info = entry("a.csv")
        info.flag_bits = 1
        with pytest.raises(Invalid, match="encrypted"):
            judge([info], 100)

    def test_many_small_swellings_are_a_bomb_too(self) -> None:
        with pytest.raises(Invalid, match="bomb"):
            judge([entry(f"{n}.csv", size=2**20, packed=2**10) for n in range(100)], 2**16)

    def test_too_many_entries_are_refused(self) -> None:
        with pytest.raises(Invalid, match="more than 2"):
            judge([entry(f"{n}.csv") for n in range(3)], 100, 2)


class TestContent:
    @pytest.mark.parametrize(
        ("name", "wanted"),
        [("a.csv", True), ("b/a.csv", True), ("b/", False), (".DS_Store", False),
         ("b/.hidden/a.csv", False), ("__MACOSX/a.csv", False)],
    )  # fmt: skip
    def test_folders_and_hidden_files_are_none(
        self, name: str, wanted: bool, tmp_path: Path
    ) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, b"x")
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            assert [is_content(info) for info in archive.infolist()] == [wanted]
