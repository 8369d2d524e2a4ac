"""Requests for access: asked by anybody, decided by administrators, each once.

Promises: an approval is an account, a local user, a key and a letter, in an order that can be
repeated, so that the same request approved twice is one user; what a stranger wrote goes into no
letter but those to administrators; nobody learns by asking whether somebody else has asked.
"""

import msgspec
import structlog

from cvf_app.backends.keystore import KeyStore, SealedText
from cvf_app.clock import Clock, epoch
from cvf_app.errors import CafeVariomeError, Conflict, Exhausted, Invalid, NotFound
from cvf_app.ids import id_of
from cvf_app.mail.model import Kind
from cvf_app.mail.service import Mails
from cvf_app.principal import Principal, Role, UserId
from cvf_app.users.access_requests.model import (
    AccessRequest,
    AccessRequestId,
    Approval,
    Approved,
    AskedAccess,
    Denial,
    NewAccessRequest,
    Status,
)
from cvf_app.users.access_requests.store import AccessRequestStore, KeptRequest
from cvf_app.users.forms import Registered
from cvf_app.users.granting import check_grant
from cvf_app.users.model import NewUser
from cvf_app.users.service import Users
from cvf_app.web.limits import Alone, Limit, Limits
from cvf_app.wire import Wire, convert, decode, encode

KEY = "access-requests"
PEOPLE = (Role.SERVER_ADMIN, Role.DEVELOPER)
KEPT_SECONDS = 180 * 24 * 3600
MOST_WAITING = 1000
_LATER = "There have been too many requests for access; try again later."
OF_AN_ADDRESS = Limit(name="asking", most=20, seconds=3600, sentence=_LATER)
OF_A_MAILBOX = Limit(name="asking-for", most=5, seconds=24 * 3600, sentence=_LATER)
OF_ALL = Limit(name="asking-all", most=500, seconds=24 * 3600, sentence=_LATER)
log = structlog.get_logger("cv3.users")


class _Asked(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What is sealed in a request's document."""

    first_name: str
    last_name: str
    email: str
    affiliation: str
    justification: str


class AccessRequests:
    """The requests for access to this instance."""

    def __init__(  # noqa: PLR0913, PLR0917 - an approval reaches into as many places
        self,
        store: AccessRequestStore,
        users: Users,
        keys: KeyStore,
        mails: Mails,
        limits: Limits,
        clock: Clock,
        *,
        alone: Alone,
    ) -> None:
        """Keep requests in this store and make users of those that are approved.

        Within `alone` no other process decides the same request.
        """
        self._store = store
        self._users = users
        self._keys = keys
        self._mails = mails
        self._limits = limits
        self._clock = clock
        self._alone = alone

    async def ask(self, new: NewAccessRequest, address: str) -> AskedAccess:
        """Keep a request that came from a network address, and tell administrators.

        While one of the same e-mail address waits, another one changes nothing.

        Raises:
            Exhausted: there are too many of them.
        """
        await self._limits.spend(OF_AN_ADDRESS, address)
        await self._limits.spend(OF_ALL)
        index = await self._keys.hmac(KEY, f"email:{new.email.casefold()}".encode())
        await self._limits.spend(OF_A_MAILBOX, index)
        if await self._store.count(Status.WAITING) >= MOST_WAITING:
            raise Exhausted(_LATER)
        asked = _Asked(
            first_name=new.first_name,
            last_name=new.last_name,
            email=new.email,
            affiliation=new.affiliation,
            justification=new.justification,
        )
        # The same id for the same person until they have an answer. Of the decided ones the old are
        # forgotten, so that the first number that is free may be a later one.
        number = await self._store.decided(index)
        while True:
            request_id = AccessRequestId(id_of(KEY, index, str(number)))
            kept = KeptRequest(
                request_id=request_id,
                sealed=await self._keys.encrypt(KEY, encode(asked), request_id.encode()),
                email_index=index,
                status=Status.WAITING,
                created_at=epoch(self._clock()),
            )
            if await self._store.add(kept):
                log.info("access_asked", request=request_id)
                await self._tell_of(request_id, asked)
                break
            there = await self._store.find(request_id)
            if there is not None and not there.status.decided:
                await self._tell_again(request_id)
                break
            number += 1
        return AskedAccess(status="Success", request_id=request_id)

    async def page(self, status: Status | None, limit: int, skip: int) -> tuple[AccessRequest, ...]:
        """Return requests, the newest first."""
        found = await self._store.page(status, limit, skip)
        texts = [SealedText(kept.sealed, kept.request_id.encode()) for kept in found]
        opened = await self._keys.decrypt_many(KEY, texts)
        return tuple(
            _shown(kept, decode(text, _Asked)) for kept, text in zip(found, opened, strict=True)
        )

    async def get(self, request_id: AccessRequestId) -> AccessRequest:
        """Return one request.

        Raises:
            NotFound: there is none.
        """
        kept = await self._find(request_id)
        return _shown(kept, await self._open(kept))

    async def clean_up(self) -> None:
        """Remove requests that were decided half a year ago."""
        await self._store.forget(epoch(self._clock()) - KEPT_SECONDS)

    async def approve(
        self, request_id: AccessRequestId, approval: Approval, by: Principal
    ) -> Approved:
        """Make the one who asked a user who may log in, and tell them; may be repeated.

        Raises:
            NotFound: there is no such request.
            Forbidden: the one who decides may not grant that role.
            Conflict: it was denied, or there is another user of that name.
            Invalid: the address cannot be a login name, and none is given.
        """
        check_grant(by.role, approval.role)
        async with self._alone(f"access-request:{request_id}"):
            return await self._approve(await self._find(request_id), approval, by)

    async def _approve(self, kept: KeptRequest, approval: Approval, by: Principal) -> Approved:
        request_id, asked = kept.request_id, await self._open(kept)
        if kept.status is Status.APPROVED and kept.user_id is not None:
            user = await self._users.get(kept.user_id)
            return Approved(status="Success", user_id=user.user_id, username=user.username)
        begun = msgspec.structs.replace(kept, status=Status.APPROVING, decided_by=by.user_id)
        if kept.status is Status.DENIED or (
            kept.status is Status.WAITING and not await self._store.move(begun, Status.WAITING)
        ):
            raise Conflict("This request was decided by somebody else.")
        try:
            done = await self._make(asked, approval, by, request_id)
        except CafeVariomeError:
            # Where the process dies before this line, the approval can be repeated all the same.
            waiting = msgspec.structs.replace(kept, status=Status.WAITING, decided_by=None)
            await self._store.move(waiting, Status.APPROVING)
            raise
        facts = {"username": done.user.username}
        await self._mails.send(Kind.ACCESS_REQUEST_APPROVED, request_id, (asked.email,), facts)
        ended = msgspec.structs.replace(
            begun,
            status=Status.APPROVED,
            decided_at=epoch(self._clock()),
            user_id=done.user.user_id,
        )
        await self._store.move(ended, Status.APPROVING)
        log.info("access_approved", request=request_id, user=done.user.user_id, by=by.user_id)
        return Approved(
            status="Success",
            user_id=done.user.user_id,
            username=done.user.username,
            initial_password=done.password,
        )

    async def deny(self, request_id: AccessRequestId, denial: Denial, by: Principal) -> None:
        """Deny a request and tell the one who asked; may be repeated.

        Raises:
            NotFound: there is no such request.
            Conflict: it was approved, or its approval has begun.
        """
        async with self._alone(f"access-request:{request_id}"):
            await self._deny(await self._find(request_id), denial, by)

    async def _deny(self, kept: KeptRequest, denial: Denial, by: Principal) -> None:
        denied = msgspec.structs.replace(
            kept, status=Status.DENIED, decided_at=epoch(self._clock()), decided_by=by.user_id
        )
        if kept.status is not Status.DENIED and not await self._store.move(denied, Status.WAITING):
            raise Conflict(
                "This request was approved, or its approval has begun; then approve it again, "
                "and deactivate the user."
            )
        asked = await self._open(kept)
        facts = {"reason": denial.reason} if denial.reason else {}
        event = kept.request_id
        await self._mails.send(Kind.ACCESS_REQUEST_DENIED, event, (asked.email,), facts)
        log.info("access_denied", request=event, by=by.user_id)

    async def _make(
        self, asked: _Asked, approval: Approval, by: Principal, request_id: AccessRequestId
    ) -> Registered:
        try:
            new = convert(
                {
                    "username": approval.username or asked.email.casefold(),
                    "email": asked.email,
                    "firstName": asked.first_name,
                    "lastName": asked.last_name,
                    "affiliation": asked.affiliation,
                    "role": approval.role.value,
                },
                NewUser,
            )
        except Invalid as fault:
            raise Invalid(
                "The address cannot be a login name; choose a `username`.", path="$.username"
            ) from fault
        user_id = UserId(id_of("access-request-user", request_id))
        return await self._users.register(new, by.role, user_id, quiet=True)

    async def _tell_of(self, request_id: AccessRequestId, asked: _Asked) -> None:
        await self._mails.send(Kind.ACCESS_REQUEST_RECEIVED, request_id, (asked.email,), {})
        facts = {
            "name": f"{asked.first_name} {asked.last_name}",
            "email": asked.email,
            "affiliation": asked.affiliation,
            "justification": asked.justification,
        }
        admins = await self._users.addresses(PEOPLE)
        await self._mails.send(Kind.ACCESS_REQUEST_WAITING, request_id, admins, facts)

    async def _tell_again(self, request_id: AccessRequestId) -> None:
        """Write the letters of a request whose sender's first attempt died before them."""
        kept = await self._find(request_id)
        if kept.status is Status.WAITING:
            await self._tell_of(request_id, await self._open(kept))

    async def _find(self, request_id: AccessRequestId) -> KeptRequest:
        kept = await self._store.find(request_id)
        if kept is None:
            raise NotFound("There is no such request for access.")
        return kept

    async def _open(self, kept: KeptRequest) -> _Asked:
        return decode(await self._keys.decrypt(KEY, kept.sealed, kept.request_id.encode()), _Asked)


def _shown(kept: KeptRequest, asked: _Asked) -> AccessRequest:
    return AccessRequest(
        request_id=kept.request_id,
        first_name=asked.first_name,
        last_name=asked.last_name,
        email=asked.email,
        affiliation=asked.affiliation,
        justification=asked.justification,
        status=kept.status,
        created_at=kept.created_at,
        decided_at=kept.decided_at,
        decided_by=kept.decided_by,
        user_id=kept.user_id,
    )
