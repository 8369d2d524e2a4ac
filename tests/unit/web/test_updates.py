"""Frames as server-sent events."""

import json

from cvf_app.updates.listener import noted, told
from cvf_app.updates.model import Notice, Operation, Update
from cvf_app.web.updates import event


class TestEvent:
    def test_an_update_is_an_event_without_a_name(self):
        update = Update(
            interface="jobs", operation=Operation.UPDATE, data={"a": "x\ny\r\n\u2028"}, id="1-0"
        )
        written = event(told(update))
        assert written.startswith(b"id: 1-0\ndata: {")
        assert written.endswith(b"}\n\n")
        # A line break within would end the field: JSON has it escaped.
        assert written.count(b"\n") == 3
        assert b"\r" not in written
        said = json.loads(written.partition(b"data: ")[2])
        assert said["data"] == {"a": "x\ny\r\n\u2028"}

    def test_a_notice_has_its_name_and_moves_on_only_with_an_id(self):
        assert event(noted(Notice(event="reset", reason="why", id="2-0"))) == (
            b'id: 2-0\nevent: reset\ndata: {"event":"reset","reason":"why","id":"2-0"}\n\n'
        )
        assert event(noted(Notice(event="ready", reason=""))) == (
            b'event: ready\ndata: {"event":"ready","reason":""}\n\n'
        )
