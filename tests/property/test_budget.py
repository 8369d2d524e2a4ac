"""The books of a host: never more than the budget, nobody starved, everything comes back."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cvf_app.jobs import budget
from cvf_app.jobs.budget import LAPSE_SECONDS, QUIET_SECONDS, Book, Claim

CORES, MIB = 4, 1000
SETTLE = 2.0


def book(**known) -> Book:
    fresh = Book(
        host="h", enforcement="", cores=CORES, memory_mib=MIB, opens_at=0.0, written_at=0.0
    )
    return msgspec.structs.replace(fresh, **known)


def claim(job_id: str, cores: int, mib: int, asked_at: float, owner: str = "w") -> Claim:
    return Claim(
        job_id=job_id,
        owner=owner,
        size="small",
        cores=cores,
        memory_mib=mib,
        asked_at=asked_at,
        held=False,
    )


CLAIMS = st.builds(
    lambda number, cores, mib: claim(f"{number:04d}", cores, mib, float(number)),
    st.integers(0, 30),
    st.integers(1, CORES),
    st.integers(1, MIB),
)
MOVES = st.one_of(
    st.tuples(st.just("ask"), CLAIMS),
    st.tuples(st.just("wait"), CLAIMS),
    st.tuples(st.just("release"), CLAIMS),
    st.tuples(st.just("later"), st.floats(0.1, 8.0)),
)


def fits(state: Book) -> bool:
    cores = sum(one.cores for one in state.held)
    return cores <= CORES and sum(one.memory_mib for one in state.held) <= MIB


class TestBook:
    @given(st.lists(MOVES, max_size=60))
    def test_what_is_held_never_exceeds_the_budget(self, moves) -> None:
        now, state = 100.0, None
        for what, given_ in moves:
            state = budget.opened(state, book(), 0.0, now)
            match what:
                case "ask":
                    known = {one.job_id: one for one in state.claims}
                    asking = known.get(given_.job_id, given_)
                    state, goes = budget.asked(state, asking, now)
                    held = {one.job_id for one in state.held}
                    assert (given_.job_id in held) is goes
                case "wait":
                    if given_.job_id not in {one.job_id for one in state.claims}:
                        state = budget.kept(state, [given_], now)
                case "release":
                    state = budget.released(state, given_.job_id, "w")
                    assert given_.job_id not in {one.job_id for one in state.claims}
                case _:
                    now += given_
            assert fits(state)

    @given(st.lists(CLAIMS, min_size=1, max_size=12, unique_by=lambda one: one.job_id))
    def test_on_an_idle_host_the_first_goes(self, claims) -> None:
        state = budget.kept(book(), claims, 100.0)
        state, goes = budget.asked(state, state.waiting[0], 100.0)
        assert goes

    @settings(max_examples=200)
    @given(
        st.lists(st.tuples(st.integers(1, CORES - 1), st.integers(1, MIB - 1)), max_size=8),
        st.integers(1, CORES),
        st.integers(1, MIB),
        st.lists(st.tuples(st.integers(1, CORES), st.integers(1, MIB)), max_size=40),
        st.randoms(use_true_random=False),
    )
    def test_a_waiting_one_waits_only_for_those_who_went_before_it_asked(
        self, before, cores, mib, stream, chance
    ) -> None:
        """Small ones keep coming and asking; once those from before are gone, it must go."""
        now, state = 100.0, book()
        for number, (some, more) in enumerate(before):
            state, _ = budget.asked(state, claim(f"a{number}", some, more, float(number)), now)
        state = msgspec.structs.replace(state, claims=state.held)
        early = [one.job_id for one in state.held]
        ours = claim("big", cores, mib, 50.0)
        state, goes = budget.asked(state, ours, now)
        for number, (some, more) in enumerate(stream):
            if goes:
                break
            state, _ = budget.asked(state, claim(f"z{number}", some, more, 60.0 + number), now)
            assert fits(state)
            if early and chance.random() < 0.3:
                state = budget.released(state, early.pop(), "w")
            state, goes = budget.asked(state, ours, now)
        for job_id in early:
            state = budget.released(state, job_id, "w")
        # Whoever came later still holds what it holds.
        _, goes = budget.asked(state, ours, now)
        assert goes

    @given(st.lists(CLAIMS, max_size=10, unique_by=lambda one: one.job_id))
    def test_what_the_dead_held_comes_back(self, claims) -> None:
        state = book()
        for one in claims:
            state, _ = budget.asked(state, one, 100.0)
        assert budget.opened(state, book(), 0.0, 100.0 + LAPSE_SECONDS).claims == ()

    @given(st.lists(CLAIMS, max_size=10, unique_by=lambda one: one.job_id))
    def test_holders_say_so_again_in_a_book_that_was_lost(self, claims) -> None:
        state = book()
        for one in claims:
            state, _ = budget.asked(state, one, 100.0)
        held = state.held
        state = budget.opened(None, book(), SETTLE, 101.0)
        state, goes = budget.asked(state, claim("new", 1, 1, 0.0), 101.0)
        assert not goes
        state = budget.kept(state, held, 102.0)
        assert {one.job_id for one in state.held} == {one.job_id for one in held}
        state, goes = budget.asked(state, claim("new", 1, 1, 0.0), 101.0 + SETTLE)
        assert fits(state)

    def test_a_quiet_book_is_not_trusted_at_once(self) -> None:
        state = book(written_at=100.0)
        later = 100.1 + QUIET_SECONDS
        state = budget.opened(state, book(), SETTLE, later)
        _, goes = budget.asked(state, claim("a", 1, 1, 0.0), later)
        assert not goes
        state = budget.opened(state, book(), SETTLE, later + SETTLE)
        _, goes = budget.asked(state, claim("a", 1, 1, 0.0), later + SETTLE)
        assert goes

    def test_a_small_one_goes_into_what_the_first_leaves(self) -> None:
        state, _ = budget.asked(book(), claim("long", 2, 100, 0.0), 100.0)
        state, goes = budget.asked(state, claim("big", 3, 100, 1.0), 100.0)
        assert not goes
        state, goes = budget.asked(state, claim("one", 1, 100, 2.0), 100.0)
        assert goes
        state, goes = budget.asked(state, claim("two", 1, 100, 3.0), 100.0)
        assert not goes
        state = budget.released(state, "long", "w")
        _, goes = budget.asked(state, claim("big", 3, 100, 1.0), 100.0)
        assert goes

    def test_one_job_is_held_by_one_worker(self) -> None:
        state, _ = budget.asked(book(), claim("a", 1, 1, 0.0, "first"), 100.0)
        _, again = budget.asked(state, claim("a", 1, 1, 0.0, "first"), 100.0)
        _, other = budget.asked(state, claim("a", 1, 1, 0.0, "second"), 100.0)
        assert (again, other) == (True, False)
        assert budget.released(state, "a", "second") == state
