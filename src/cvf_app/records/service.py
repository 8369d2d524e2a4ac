"""Record queries: taken, answered source by source, and shown to whom they belong.

A query is answered at once by the process that takes it, if that process answers queries: it is
stored together with the claim, and one of the process's `work` loops evaluates it. A claim lapses
unless it is renewed, and `recover` (a timer) takes up what lapsed. To answer again is harmless:
what a source has answered stands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import structlog

from cvf_app import metrics
from cvf_app.clock import Clock, now
from cvf_app.engine.evaluate import evaluate
from cvf_app.engine.plan import Plan
from cvf_app.engine.segments import Generation
from cvf_app.errors import CafeVariomeError, Invalid
from cvf_app.groups.model import Depth
from cvf_app.groups.service import Groups
from cvf_app.ids import NetworkId, NodeId, new_id
from cvf_app.loops import in_thread
from cvf_app.networks.service import Networks
from cvf_app.principal import Principal, UserId
from cvf_app.records.bell import Bell
from cvf_app.records.compile import compile_query, kind_of
from cvf_app.records.disclose import Findings, disclose, nothing_found
from cvf_app.records.model import (
    Done,
    HistoryItem,
    MessageAttributes,
    QueryId,
    QueryStatus,
    RecordDataQuery,
    RecordDataResponse,
    RecordQuery,
    SourceAnswer,
)
from cvf_app.records.signals import ANSWERED, ASKED, ENDED, Signals
from cvf_app.records.store import KeptAnswer, KeptQuery, RecordStore
from cvf_app.sources.model import Source
from cvf_app.sources.service import Sources

LEASE_SECONDS = 10.0
SOURCE_SECONDS = 30.0
MOST_AT_ONCE = 8
MOST_CLAIMED = 200
MOST_ATTEMPTS = 5
MOST_RECOVERED = 20
POLL_SECONDS = 1.0
SLOTS = 4
log = structlog.get_logger("cv3.records")


@dataclass(frozen=True, slots=True)
class _Claim:
    query: KeptQuery
    lease: str
    until: float
    # Another process may have taken the query, and wait there.
    foreign: bool = True


class Records:
    """The record queries of this instance; `answers_here`: so does this process."""

    def __init__(  # noqa: PLR0913 - each is a service of a lower floor
        self,
        store: RecordStore,
        sources: Sources,
        groups: Groups,
        networks: Networks,
        signals: Signals,
        *,
        answers_here: bool = True,
        clock: Clock = now,
    ) -> None:
        """Answer from these sources, as these groups allow."""
        self._store = store
        self._sources = sources
        self._groups = groups
        self._networks = networks
        self._signals = signals
        self._answers_here = answers_here
        self._clock = clock
        self._bell = Bell()
        self._ended = Bell()
        self._claimed: asyncio.Queue[_Claim] = asyncio.Queue(MOST_CLAIMED)

    async def submit(
        self, asker: Principal, question: RecordQuery, network_id: NetworkId | None = None
    ) -> QueryId:
        """Take a query: it is kept before its id is returned, and answered at once where it can be.

        Raises:
            Invalid: the query asks for what cannot be asked; the path says where.
            NotFound: this instance is in no such network.
        """
        _check_depth(_asked(question))
        compile_query(question)  # what cannot be answered is refused now, and to the sender's face
        own = await self._networks.own()
        network = own if network_id is None else await self._networks.get(network_id)
        here = self._answers_here and not self._claimed.full()
        moment = self._clock().timestamp()
        query = KeptQuery(
            query_id=QueryId(new_id()),
            user_id=asker.user_id,
            network_id=network.network_id,
            question=question,
            status=QueryStatus.RUNNING if here else QueryStatus.WAITING,
            created_at=moment,
            attempts=1 if here else 0,
        )
        lease = new_id()
        until = moment + LEASE_SECONDS if here else 0.0
        await self._store.insert(query, lease=lease, until=until)
        if here:
            self._take(_Claim(query, lease, until, foreign=False))
        else:
            await self._signals.send(ASKED, query.query_id)
        return query.query_id

    async def get(self, asker: Principal, query_id: QueryId) -> RecordDataQuery:
        """Return one of the asker's queries.

        Raises:
            NotFound: there is none, or it is another's.
        """
        query = await self._store.get(query_id, asker.user_id)
        return _message(query, await self._node())

    async def owner(self, query_id: QueryId) -> UserId:
        """Return whose query this is.

        Raises:
            NotFound: there is none.
        """
        return (await self._store.get(query_id)).user_id

    async def views(self, query_id: QueryId) -> Callable[[Principal], RecordDataQuery | None]:
        """Return how a query looks to whom: what `get` would answer each of them.

        Raises:
            NotFound: there is none.
        """
        query = await self._store.get(query_id)
        message = _message(query, await self._node())
        return lambda asker: message if asker.user_id == query.user_id else None

    async def history(self, asker: Principal, limit: int, page: int) -> tuple[HistoryItem, ...]:
        """Return a page (from 0) of the asker's queries, newest first, without subjects."""
        node = await self._node()
        queries = await self._store.list_of_user(asker.user_id, limit, limit * page)
        return tuple(
            [
                _item(query, await self._store.list_answers(query.query_id, whole=False), node)
                for query in queries
            ]
        )

    async def answer(self, asker: Principal, query_id: QueryId) -> HistoryItem:
        """Return one of the asker's queries with its answers so far.

        Raises:
            NotFound: there is none, or it is another's.
        """
        return await self._whole(await self._store.get(query_id, asker.user_id))

    async def wait(self, asker: Principal, query_id: QueryId, seconds: float) -> HistoryItem | None:
        """Return the finished answer of a query just submitted, or None if it takes longer.

        The first look at the store comes after a ring: nothing ends before it was begun.
        """
        try:
            async with asyncio.timeout(seconds):
                with self._ended.listening(query_id) as ear:
                    while True:
                        await ear.wait(POLL_SECONDS)
                        query = await self._store.get(query_id, asker.user_id)
                        if query.status.ended:
                            break
        except TimeoutError:
            return None
        return await self._whole(query)

    async def events(
        self, asker: Principal, query_id: QueryId, after: int
    ) -> AsyncIterator[KeptAnswer | Done | None]:
        """Yield the answers after a number as they come, then the end; None is a sign of life."""
        with self._bell.listening(query_id) as ear:
            while True:
                # The status is read before the answers: an end that is seen has all of them.
                query = await self._store.get(query_id, asker.user_id)
                for kept in await self._store.list_answers(query_id, after=after):
                    after = kept.number
                    yield kept
                if query.status.ended:
                    yield Done(query_id=query_id, status=query.status)
                    return
                yield None
                await ear.wait(POLL_SECONDS)

    async def recover(self) -> None:
        """Take up queries that nobody answers: not taken yet, or their process died."""
        moment = self._clock().timestamp()
        for query in await self._store.list_lapsed(moment, MOST_RECOVERED):
            if self._claimed.full():
                return
            lease = new_id()
            until = moment + LEASE_SECONDS
            if not await self._store.claim(query.query_id, lease, moment, until):
                continue
            if query.attempts >= MOST_ATTEMPTS:
                await self._finish(_Claim(query, lease, until), QueryStatus.FAILED)
                continue
            self._take(_Claim(replace(query, attempts=query.attempts + 1), lease, until))

    async def listen(self) -> None:
        """Hear what other processes signal, until cancelled: asked there, or answered there."""
        await self._signals.listen(self._hear)

    async def _hear(self, word: str, query_id: QueryId) -> None:
        if word != ASKED:
            self._ring(query_id, ended=word == ENDED)
        elif self._answers_here:
            try:
                await self.recover()
            except CafeVariomeError as fault:  # the timer tries again
                log.warning("queries_not_taken_up", cause=fault.sentence)

    def _ring(self, query_id: QueryId, *, ended: bool) -> None:
        self._bell.ring(query_id)
        if ended:
            self._ended.ring(query_id)

    async def measure(self) -> None:
        """Set the gauge of queries that nobody answers yet."""
        waiting = await self._store.count_lapsed(self._clock().timestamp())
        metrics.queue_depth.labels("queries").set(waiting)

    async def work(self) -> None:
        """Answer claimed queries one after the other; a process runs `SLOTS` of these."""
        while True:
            claim = await self._claimed.get()
            # A surprise in one query is a value here: the loop goes on, the claim lapses and the
            # query is tried again, by whoever comes to it.
            (fault,) = await asyncio.gather(self._run(claim), return_exceptions=True)
            if isinstance(fault, BaseException):
                log.error("query_interrupted", query=claim.query.query_id, exc_info=fault)

    def _take(self, claim: _Claim) -> None:
        try:
            self._claimed.put_nowait(claim)
        except asyncio.QueueFull:  # others came in between: the claim lapses and is taken up again
            log.warning("queries_queue_up", query=claim.query.query_id)

    async def _run(self, claim: _Claim) -> None:
        """Answer a query under its claim, which is renewed meanwhile."""
        moment = self._clock().timestamp()
        # Most claims are begun at once, and a write less is felt in every answer.
        if claim.until - moment < LEASE_SECONDS / 2 and not await self._store.renew(
            claim.query.query_id, claim.lease, moment + LEASE_SECONDS
        ):
            return  # it waited too long here, and another has it now
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(self._keep(claim))
            status = await self._ask_all(claim)
            renewing.cancel()
        await self._finish(claim, status)

    async def _keep(self, claim: _Claim) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            until = self._clock().timestamp() + LEASE_SECONDS
            await self._store.renew(claim.query.query_id, claim.lease, until)

    async def _finish(self, claim: _Claim, status: QueryStatus) -> None:
        if await self._store.finish(claim.query.query_id, claim.lease, status):
            kind = kind_of(claim.query.question)
            metrics.queries.labels(kind, status.value).inc()
            seconds = self._clock().timestamp() - claim.query.created_at
            # The clock may have been set back meanwhile.
            metrics.query_seconds.labels(kind).observe(max(0.0, seconds))
        await self._tell(claim, ENDED)

    async def _tell(self, claim: _Claim, word: str) -> None:
        self._ring(claim.query.query_id, ended=word == ENDED)
        if claim.foreign:
            await self._signals.send(word, claim.query.query_id)

    async def _ask_all(self, claim: _Claim) -> QueryStatus:
        """Ask every source in reach at once; a source that fails is left out of the answer."""
        query, question = claim.query, claim.query.question
        compiled = compile_query(question)
        reach = await self._groups.depth_of(query.user_id, query.network_id)
        named = question.sources.sources if question.sources else ()
        # Ids that are unknown or out of reach are passed over without a word.
        wanted = {each: depth for each, depth in reach.items() if not named or each in named}
        # At a first attempt nobody can have answered.
        answered = await self._store.answered(query.query_id) if query.attempts > 1 else frozenset()
        sources = [
            source
            for source in await self._sources.get_many(tuple(wanted))
            if source.online and source.source_id not in answered
        ]
        slots = asyncio.Semaphore(MOST_AT_ONCE)
        keeping = asyncio.Lock()
        number = len(answered) + 1

        async def ask(source: Source) -> None:
            nonlocal number
            async with slots, asyncio.timeout(SOURCE_SECONDS):
                generation = await self._sources.open_generation(source.source_id)
                depth = wanted[source.source_id]
                told = await in_thread(_look, source, generation, compiled, depth, _asked(question))
            if told is None:
                return
            async with keeping:
                number = await self._store.add_answer(query.query_id, told, number)
            await self._tell(claim, ANSWERED)

        outcomes = await asyncio.gather(*map(ask, sources), return_exceptions=True)
        failed = 0
        for source, outcome in zip(sources, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failed += 1
                foreseen = isinstance(outcome, CafeVariomeError | TimeoutError)
                tell = log.warning if foreseen else log.error
                tell(
                    "source_failed",
                    query=query.query_id,
                    source=source.source_id,
                    exc_info=outcome,
                )
        lost = failed and failed == len(sources) and not answered
        return QueryStatus.FAILED if lost else QueryStatus.COMPLETE

    async def _whole(self, query: KeptQuery) -> HistoryItem:
        return _item(query, await self._store.list_answers(query.query_id), await self._node())

    async def _node(self) -> NodeId:
        return (await self._networks.own()).instance_id


def _look(
    source: Source,
    generation: Generation | None,
    compiled: Plan,
    allowed: Depth,
    asked: Depth | None,
) -> SourceAnswer | None:
    """Evaluate and disclose in one go, in a thread: what is not told never leaves it."""
    if generation is None:
        return disclose(nothing_found(source), allowed, asked)
    hits = evaluate(generation, compiled)
    found_in_cache, read = generation.looks()
    metrics.count_cache("bitmaps", hits=found_in_cache, misses=read)
    found = Findings(
        source=source,
        count=hits.count,
        ids=hits.ids,
        documents=hits.documents,
        ignored=hits.ignored,
    )
    return disclose(found, allowed, asked)


def _asked(question: RecordQuery) -> Depth | None:
    return question.advanced.granularity if question.advanced else None


def _check_depth(asked: Depth | None) -> None:
    if asked is Depth.RANGE:
        raise Invalid(
            "The granularity 'range' is not available yet: it needs private ranges. "
            "Ask for 'boolean' or 'count'.",
            path="$.advanced.granularity",
        )


def _attributes(query: KeptQuery, node: NodeId, *, response: bool) -> MessageAttributes:
    return MessageAttributes(
        message_id=query.query_id,
        network_id=query.network_id,
        node_id=node,
        data_type="recordResponse" if response else "recordQuery",
        should_relay=False,
        user_id=query.user_id,
    )


def _message(query: KeptQuery, node: NodeId) -> RecordDataQuery:
    return RecordDataQuery(
        message_attributes=_attributes(query, node, response=False),
        message_data=query.question,
        timestamp=int(query.created_at),
        status=query.status,
    )


def _item(query: KeptQuery, answers: tuple[KeptAnswer, ...], node: NodeId) -> HistoryItem:
    response = RecordDataResponse(
        message_attributes=_attributes(query, node, response=True),
        message_data=tuple(kept.answer for kept in answers),
        timestamp=int(query.created_at),
    )
    return HistoryItem(query=_message(query, node), responses=(response,), status=query.status)
