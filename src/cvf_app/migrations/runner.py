"""Leading a database from one number to another, under the lock, one migration after the other.

Promises: what is about to be done is written down first, so that a run that was killed is seen and
can be finished by the same command, or taken back by the opposite one; the number changes only when
a migration is done; a dry run writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cvf_app.backends.mongo import Mongo
from cvf_app.errors import Conflict, Invalid
from cvf_app.migrations.catalogue import Catalogue
from cvf_app.migrations.lock import LEASE_SECONDS, locked
from cvf_app.migrations.model import Migration
from cvf_app.migrations.state import State, States, Under
from cvf_app.migrations.steps import Doing, Say


@dataclass(frozen=True)
class Leg:
    """One migration in one direction; `arrives` is the number afterwards."""

    migration: Migration
    direction: str
    arrives: int


class Runner:
    """The migrations and one database."""

    def __init__(
        self,
        mongo: Mongo,
        migrations: Sequence[Migration],
        say: Say,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Lead this database; `say` is told every step."""
        self._mongo = mongo
        self._migrations = tuple(migrations)
        self._say = say
        self._states = States(mongo)
        self._lease = lease_seconds

    @property
    def newest(self) -> int:
        """The highest number there is."""
        return len(self._migrations)

    async def create(self, *, dry: bool = False) -> int:
        """Make a new database at the newest number, and return it.

        Raises:
            Conflict: there is one already.
        """
        state = await self._states.read()
        broken_off = state.doing is not None and state.doing.direction == "up"
        if state.exists and (state.number or not broken_off):
            raise Conflict(
                "There is a database already. See: cvf db status; to bring it up to date: "
                "cvf db upgrade"
            )
        return await self._run("up", self.newest, dry=dry, create=True)

    async def upgrade(self, to: int | None = None, *, dry: bool = False) -> int:
        """Lead up to a number, the newest by default, and return where the database is.

        Raises:
            Conflict: there is no database, it is beyond that number, or another is at it.
            Invalid: there is no such number.
        """
        return await self._run("up", self.newest if to is None else to, dry=dry)

    async def downgrade(self, to: int, *, dry: bool = False) -> int:
        """Lead down to a number and return where the database is.

        Raises:
            Conflict: there is no database, it is below that number, or another is at it.
            Invalid: there is no such number.
        """
        return await self._run("down", to, dry=dry)

    async def _run(self, direction: str, to: int, *, dry: bool, create: bool = False) -> int:
        if not 0 <= to <= self.newest:
            raise Invalid(f"There are the numbers 0 to {self.newest}.")
        if dry:
            state = await self._known(create=create)
            for leg in self._legs(state, direction, to):
                await self._go(leg, state, dry=True)
            return state.number
        # Looked at before the lock is written: a database that is not ours stays untouched.
        await self._known(create=create)
        async with locked(self._states.collection, self._lease):
            state = await self._known(create=create)
            legs = self._legs(state, direction, to)
            validates = state.validates
            if legs and not (state.exists and state.applied):
                validates = await Catalogue(self._mongo).validates()
            for leg in legs:
                under = Under(direction=leg.direction, number=leg.migration.number)
                await self._states.begin(state.number, under, validates=validates)
                state = await self._states.read()
                await self._go(leg, state, dry=False)
                await self._states.arrive(leg.arrives, under)
                state = await self._states.read()
            return state.number

    async def _known(self, *, create: bool) -> State:
        state = await self._states.read()
        if not state.exists and not create:
            raise Conflict("There is no database yet. Make it with: cvf db create")
        if state.number > self.newest:
            raise Conflict(
                f"The database is at number {state.number}, which this program does not know: "
                f"it knows {self.newest}. Use the newer program."
            )
        if state.doing is not None and state.doing.direction == "restore":
            raise Conflict("A restore was broken off; run it again first: cvf restore FILE")
        return state

    def _legs(self, state: State, direction: str, to: int) -> tuple[Leg, ...]:
        """Return the way; what was broken off half way is done, or taken back, first."""
        half = state.doing.number if state.doing is not None else None
        if direction == "up":
            begin = state.number if half is None or half > state.number else half - 1
            if half is not None and to < half:
                raise Conflict(f"Number {half} was broken off; go on with it: cvf db upgrade")
            if to < begin:
                raise Conflict(
                    f"The database is at number {state.number}; to go back: cvf db downgrade"
                )
            return tuple(Leg(each, "up", each.number) for each in self._migrations[begin:to])
        begin = state.number if half is None else max(half, state.number)
        if to > state.number:
            raise Conflict(f"The database is at number {state.number}; to go on: cvf db upgrade")
        going = reversed(self._migrations[to:begin])
        return tuple(Leg(each, "down", each.number - 1) for each in going)

    async def _go(self, leg: Leg, state: State, *, dry: bool) -> None:
        migration = leg.migration
        self._say(f"{leg.direction} {migration.number:04d}: {migration.sentence}")
        steps = Doing(
            self._mongo,
            migration.number,
            lambda line: self._say(f"  {line}"),
            validates=state.validates or dry,
            dry=dry,
        )
        await (migration.up if leg.direction == "up" else migration.down)(steps)
