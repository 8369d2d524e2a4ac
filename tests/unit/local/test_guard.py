"""One guard a folder: the lock counts, not what a file says."""

import os

import pytest

from cvf_app.errors import Conflict, Invalid
from cvf_app.local.daemon import bind_of
from cvf_app.local.guard import Lock
from cvf_app.local.layout import LocalState, Ports
from cvf_app.local.ports import parse, refuse_public

STATE = LocalState(ports=Ports(app=21_000, database=21_001, identity=21_002))


class TestLock:
    def test_a_second_guard_is_refused(self, tmp_path):
        first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
        first.take()
        assert second.is_held()
        assert second.holder().pid == os.getpid()
        with pytest.raises(Conflict):
            second.take()
        first.release()
        assert second.holder() is None

    def test_a_stale_file_counts_for_nothing(self, tmp_path):
        (tmp_path / "lock").write_text('{"pid":1,"started":"1"}')
        lock = Lock(tmp_path / "lock")
        assert not lock.is_held()
        assert lock.holder() is None
        lock.take()
        lock.release()


class TestBind:
    def test_the_kept_port_is_taken_unless_another_is_given(self):
        assert bind_of({}, STATE) == ("127.0.0.1", 21_000)
        assert bind_of({"CV3_BIND": "127.0.0.1:8080"}, STATE) == ("127.0.0.1", 8080)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
    def test_local_mode_refuses_a_public_address(self, host):
        with pytest.raises(Invalid):
            refuse_public(host)

    def test_full_mode_may_be_public(self):
        assert bind_of({"CV3_BIND": "0.0.0.0:80"}, None) == ("0.0.0.0", 80)

    @pytest.mark.parametrize("text", ["", "5000", "host:", ":1", "a:b"])
    def test_what_is_no_address_is_refused(self, text):
        with pytest.raises(Invalid):
            parse(text)
