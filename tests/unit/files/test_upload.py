"""What the names of pieces say of an upload."""

from cvf_app.files.upload import Arrived, Finished


class TestArrived:
    def test_chunks_come_in_the_order_of_their_numbers(self) -> None:
        arrived = Arrived.of(frozenset({"10.b.chunk", "2.a.chunk", "12.total", "left.part"}))
        assert list(arrived.chunks.items()) == [(2, "2.a.chunk"), (10, "10.b.chunk")]
        assert (arrived.total, arrived.length, arrived.finished) == (12, None, None)

    def test_ranges_count_as_far_as_they_follow_each_other(self) -> None:
        names = {"0.5.a.range", "0.9.b.range", "9.12.c.range", "13.20.d.range", "20.length"}
        arrived = Arrived.of(frozenset(names))
        assert arrived.ranges == ("0.9.b.range", "9.12.c.range")
        assert (arrived.received, arrived.length) == (12, 20)

    def test_nothing_is_nothing_and_what_is_not_ours_is_passed_over(self) -> None:
        assert Arrived.of(frozenset()).received == 0
        arrived = Arrived.of(frozenset({"finished", "total.3", "x.in"}))
        assert (arrived.finished, arrived.total, arrived.chunks) == (None, None, {})

    def test_a_finished_upload_knows_its_file_and_its_chunks(self) -> None:
        arrived = Arrived.of(frozenset({"id.1500000.finished", "1.a.was"}))
        assert arrived.finished == Finished("id", 1.5)
        assert arrived.sent(1, "a")
        assert not arrived.sent(1, "b")
