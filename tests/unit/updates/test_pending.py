"""Coalescing: few announcements of each thing, the last state always."""

import itertools
import random

from cvf_app.principal import Role
from cvf_app.updates.model import Audience, Change, Lost, Operation
from cvf_app.updates.pending import MOST_IDS, PAUSE_SECONDS, Pending

INSERT, UPDATE, DELETE = Operation.INSERT, Operation.UPDATE, Operation.DELETE
DATA = Audience(roles=(Role.DATA_ADMIN,))


def change(operation, *ids, interface="jobs"):
    audience = DATA if operation is DELETE else None
    return Change(interface=interface, operation=operation, ids=ids, audience=audience)


class TestPending:
    def test_the_first_goes_at_once_and_the_next_after_a_pause(self):
        pending = Pending()
        assert pending.wait(10.0) is None
        pending.put(change(UPDATE, "a"))
        assert pending.wait(10.0) == 0.0
        assert pending.take(10.0) == [change(UPDATE, "a")]
        pending.put(change(UPDATE, "a"))
        assert pending.take(10.1) == []
        assert abs(pending.wait(10.1) - (PAUSE_SECONDS - 0.1)) < 1e-9
        assert pending.take(10.0 + PAUSE_SECONDS) == [change(UPDATE, "a")]
        assert pending.wait(11.0) is None

    def test_many_changes_of_one_thing_are_one(self):
        pending = Pending()
        for _ in range(1000):
            pending.put(change(UPDATE, "a"))
        assert pending.take(0.0) == [change(UPDATE, "a")]

    def test_things_do_not_wait_for_each_other(self):
        pending = Pending()
        pending.put(change(UPDATE, "a"))
        pending.take(0.0)
        pending.put(change(UPDATE, "a"))
        pending.put(change(UPDATE, "b"))
        pending.put(change(UPDATE, "a", interface="users"))
        assert pending.take(0.1) == [change(UPDATE, "b"), change(UPDATE, "a", interface="users")]

    def test_an_insert_stays_one_until_it_was_told(self):
        pending = Pending()
        pending.put(change(INSERT, "a"))
        pending.put(change(UPDATE, "a"))
        assert pending.take(0.0) == [change(INSERT, "a")]

    def test_a_deletion_takes_the_place_of_what_waits_and_waits_for_nothing(self):
        pending = Pending()
        pending.put(change(UPDATE, "a"))
        pending.take(0.0)
        pending.put(change(UPDATE, "a"))
        pending.put(change(DELETE, "a"))
        assert pending.wait(0.1) == 0.0
        assert pending.take(0.1) == [change(DELETE, "a")]
        assert pending.wait(9.0) is None

    def test_deletions_of_many_are_cut_into_pieces(self):
        pending = Pending()
        ids = [str(number) for number in range(2 * MOST_IDS + 1)]
        pending.put(change(DELETE, *ids))
        taken = pending.take(0.0)
        assert [len(each.ids) for each in taken] == [MOST_IDS, MOST_IDS, 1]
        assert [each for piece in taken for each in piece.ids] == ids
        assert {each.audience for each in taken} == {DATA}

    def test_too_many_are_given_up_for_one_word(self):
        pending = Pending(most=3)
        for name in "abcd":
            pending.put(change(UPDATE, name))
        pending.put(change(UPDATE, "e"))
        assert pending.take(0.0) == [Lost(), change(UPDATE, "e")]
        pending.put(change(DELETE, *"abcde"))
        assert pending.take(1.0) == [Lost()]

    def test_what_could_not_be_sent_is_due_again_and_newer_news_win(self):
        pending = Pending()
        pending.put(change(INSERT, "a"))
        pending.put(change(UPDATE, "b"))
        pending.put(change(DELETE, "c"))
        taken = pending.take(0.0)
        pending.put(change(UPDATE, "a"))
        pending.put(change(DELETE, "b"))
        pending.put_back(taken)
        assert pending.wait(0.1) == 0.0
        again = pending.take(0.1)
        assert set(again) == {change(INSERT, "a"), change(DELETE, "b"), change(DELETE, "c")}

    def test_lost_is_put_back_too(self):
        pending = Pending()
        pending.put(Lost())
        pending.put_back(pending.take(0.0))
        assert pending.take(0.0) == [Lost()]

    def test_in_any_order_few_are_taken_and_the_last_state_always(self):
        chance = random.Random(5)
        for _ in range(200):
            pending, now, last, taken = Pending(), 0.0, {}, {}
            for _ in range(60):
                now += chance.random() * 0.2
                name = chance.choice("abc")
                pending.put(change(UPDATE, name))
                last[name] = now
                if chance.random() < 0.7:
                    for each in pending.take(now):
                        taken.setdefault(each.ids[0], []).append(now)
            while (wait := pending.wait(now)) is not None:
                now += wait
                for each in pending.take(now):
                    taken.setdefault(each.ids[0], []).append(now)
            for name, moments in taken.items():
                assert moments[-1] >= last[name]
                pairs = itertools.pairwise(moments)
                assert all(after - before > PAUSE_SECONDS - 1e-9 for before, after in pairs)
