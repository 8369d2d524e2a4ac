"""Our login at Vault, and every call of it: a few threads, short limits, one sentence a failure.

Promises: a call ends within `ANSWER_SECONDS` unless it says otherwise. A token is prolonged at two
thirds of its life; one that is over or was taken back is replaced by one new login, and there is
never more than one login in `LOGIN_PAUSE`. While Vault is away, sealed, not initialised or a
standby node, calls fail at once with a sentence that says so, Vault is asked again every
`DOWN_PAUSE`, and all goes on by itself when it is back. Nothing of hvac leaves this module, neither
values nor exceptions: those can quote what was sent. Redirects are not followed (a standby node
sends one, and our token would go with it), and no proxy or password file of the system is used.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import hvac
import requests
import structlog
from hvac import exceptions as vault_says

from cvf_app import metrics
from cvf_app.errors import Invalid, VaultLoginRefused, VaultUnavailable

T = TypeVar("T")
Work = Callable[[Any], T]

THREADS = 4
ANSWER_SECONDS = 5.0
LOGIN_PAUSE = 10.0
DOWN_PAUSE = 1.0
_CONNECT_SECONDS = 2.0
# What is left to look at Vault's health, so that the reason reaches the waiting caller.
_MARGIN = 1.0
_HEALTH_SECONDS = 0.8
_RENEW_AT = 2 / 3
_AGAIN = "This instance goes on by itself when that is done."
_SENTENCES = {
    "unreachable": "Vault, which keeps the secrets and keys, does not answer. "
    "Start it, or mend Vault.Host in the configuration.",
    "sealed": "Vault, which keeps the secrets and keys, is sealed: unseal it "
    f"(vault operator unseal). {_AGAIN}",
    "not initialised": "Vault, which keeps the secrets and keys, is not initialised: initialise "
    "it (vault operator init), unseal it and run scripts/setup_vault.sh.",
    "standby": "This node of Vault is on standby and there is no way from it to the active one: "
    "let Vault.Host in the configuration be the address of the whole cluster.",
    "failing": "Vault, which keeps the secrets and keys, fails inside; its log says why.",
    "login refused": "Vault does not let us log in: VAULT_ROLE_ID or VAULT_SECRET_ID is wrong, "
    "used up or expired. Make a new secret id with scripts/setup_vault.sh --issue.",
    "login over": "Our login at Vault has ended before its time; we log in again within ten "
    "seconds.",
    "slow": "Vault, which keeps the secrets and keys, takes too long to answer.",
    "interrupted": "Vault, which keeps the secrets and keys, broke off the connection.",
    "denied": "Vault's policy does not let us do what we need: run scripts/setup_vault.sh again.",
    "not mounted": "Vault has no engine at the configured path: run scripts/setup_vault.sh, or "
    "mend Vault.TransitPath and Vault.KV2Path in the configuration.",
}
# Those that make every call fail, so that the next ones need not try.
_DOWN = frozenset({"unreachable", "sealed", "not initialised", "standby"})
# https://developer.hashicorp.com/vault/api-docs/system/health
_BY_HEALTH = {
    429: "standby",
    472: "standby",
    473: "standby",
    501: "not initialised",
    503: "sealed",
}
log = structlog.get_logger("cv3.vault")


class Missing(Exception):
    """There is nothing of this name."""


class Refused(Exception):
    """Vault calls what we sent wrong; `reason` is a few words of its own, for comparing only."""

    def __init__(self, reason: str) -> None:
        super().__init__("Vault calls the request wrong")
        self.reason = reason


class _Trouble(Exception):
    """Why a call cannot be done now: a key of `_SENTENCES`."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True)
class AppRole:
    """Who we are at Vault."""

    role_id: str = field(repr=False)
    secret_id: str = field(repr=False)


@dataclass(frozen=True)
class _Token:
    """What a login gave; a `life` of 0 never ends."""

    value: str = field(repr=False)
    first_life: float
    life: float
    since: float

    @property
    def renew_at(self) -> float:
        """The moment from which it is to be prolonged."""
        return self.since + self.life * _RENEW_AT if self.life else float("inf")

    @property
    def over_at(self) -> float:
        """The moment when it ends."""
        return self.since + self.life if self.life else float("inf")


class VaultSession:
    """One login at one Vault."""

    def __init__(
        self, host: str, login: AppRole, *, ca: str = "", clock: Callable[[], float] = monotonic
    ) -> None:
        """Remember where Vault is and who we are; nothing is sent before the first call.

        Raises:
            Invalid: one of them is missing.
        """
        if not host.startswith(("https://", "http://")):
            raise Invalid(
                "The address of Vault is missing or does not begin with https://.",
                path="$.Vault.Host",
            )
        if not login.role_id or not login.secret_id:
            raise Invalid(
                "Vault needs a login: set VAULT_ROLE_ID and VAULT_SECRET_ID in the environment; "
                "scripts/setup_vault.sh makes them.",
                path="$.Secrets.Provider",
            )
        self._host = host.rstrip("/")
        self._login = login
        # What the system trusts, as for every other connection; requests would bring its own list.
        self._trusted = ca or ssl.get_default_verify_paths().cafile or True
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="vault")
        self._mine = threading.local()
        self._opened: list[requests.Session] = []
        self._guard = threading.Lock()
        self._token: _Token | None = None
        self._logged_in_at = float("-inf")
        self._login_failed = "login over"
        self._renewed_at = float("-inf")
        self._down = ("", float("-inf"))
        self._told = ""

    async def call(self, work: Work[T], *, seconds: float = ANSWER_SECONDS) -> T:
        """Do something with a logged-in hvac client in a thread; it may be done twice.

        Raises:
            Missing: what it asks for is not there.
            Refused: Vault calls the request wrong.
            VaultUnavailable: Vault does not do it now; the sentence says why.
        """
        try:
            with metrics.service_call("vault", answers=(Missing,)):
                async with asyncio.timeout(seconds):
                    return await self._on_threads(lambda: self._watched(work, seconds - _MARGIN))
        except TimeoutError:
            trouble = "slow"
        except _Trouble as fault:
            trouble = fault.state
        kind = VaultLoginRefused if trouble == "login refused" else VaultUnavailable
        raise kind(_SENTENCES[trouble])

    async def version(self) -> str:
        """Return Vault's version as it tells everybody.

        Raises:
            VaultUnavailable: it does not answer.
        """
        return await self.call(
            lambda client: str(client.sys.read_health_status(method="GET")["version"])
        )

    async def prolong(self) -> None:
        """Log in, or prolong the login when it is time; what fails is tried again later."""
        try:
            await self.call(lambda _: None)
        except VaultUnavailable as fault:
            log.debug("vault_not_tended", sentence=fault.sentence)

    async def close(self) -> None:
        """Give the token back if Vault takes it, and let go of threads and connections."""
        if self._token is not None:
            try:
                await self.call(lambda client: client.auth.token.revoke_self(), seconds=2.0)
            except (VaultUnavailable, Refused, Missing):
                log.info("vault_token_not_given_back")
        self._threads.shutdown(wait=False, cancel_futures=True)
        for session in self._opened:
            session.close()

    async def _on_threads(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _watched(self, work: Work[T], seconds: float) -> T:
        """Do it, and remember what Vault is like, also if nobody waits for the answer any more."""
        state, until = self._down
        if self._clock() < until:
            # Nothing was learned here, so the pause is not prolonged.
            raise _Trouble(state)
        try:
            done = self._do(work, seconds)
        except _Trouble as fault:
            self._note(fault.state)
            raise
        self._note("")
        return done

    def _do(self, work: Work[T], seconds: float) -> T:
        token = self._current()
        try:
            return self._ask(work, token.value, seconds)
        except _Trouble as fault:
            if fault.state == "denied" and not self._lives(token):
                self._forget(token)
            elif fault.state != "interrupted":
                raise
        return self._ask(work, self._current().value, seconds)

    def _ask(self, work: Work[T], token: str, seconds: float = ANSWER_SECONDS) -> T:
        """Call Vault once, and turn what hvac raises into ours outside of its `except`."""
        # A new client each time: it is light, and no thread changes the token of another.
        client = hvac.Client(
            url=self._host,
            token=token,
            timeout=(_CONNECT_SECONDS, seconds),
            allow_redirects=False,
            session=self._session(),
        )
        try:
            return work(client)
        except vault_says.VaultError as fault:
            raised: Exception = fault
        except (requests.RequestException, ValueError, KeyError, TypeError) as fault:
            # The last three: what answered is no Vault.
            raised = fault
        raise self._ours(raised)

    def _ours(self, raised: Exception) -> Exception:
        """Return what an exception of hvac or requests means, with nothing of it inside."""
        if isinstance(raised, vault_says.Forbidden):
            return _Trouble("denied")
        if isinstance(raised, vault_says.InvalidPath):
            return _Trouble("not mounted") if raised.errors else Missing()
        if isinstance(raised, vault_says.InvalidRequest):
            return Refused(" ".join(map(str, raised.errors or ())))
        if isinstance(raised, requests.ConnectTimeout):
            return _Trouble("unreachable")
        states = ((requests.ReadTimeout, "slow"), (requests.ConnectionError, "interrupted"))
        state = next((state for kind, state in states if isinstance(raised, kind)), "failing")
        return _Trouble(self._health() or state)

    def _health(self) -> str:
        """Return what is wrong with Vault as a whole, or nothing."""
        try:
            answer = self._session().get(
                f"{self._host}/v1/sys/health",
                timeout=(_HEALTH_SECONDS, _HEALTH_SECONDS),
                allow_redirects=False,
            )
        except requests.RequestException:
            return "unreachable"
        return _BY_HEALTH.get(answer.status_code, "")

    def _session(self) -> requests.Session:
        """Return this thread's connections."""
        session: requests.Session | None = getattr(self._mine, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.verify = self._trusted
            session.hooks["response"].append(_refuse_redirect)
            self._mine.session = session
            self._opened.append(session)
        return session

    def _current(self) -> _Token:
        """Return a token that should be good, logging in or prolonging it when that is due."""
        with self._guard:
            token, now = self._token, self._clock()
            if token is not None and now >= token.renew_at and now < token.over_at:
                token = self._prolonged(token)
            if token is None or now >= token.over_at:
                token = self._logged_in()
            self._token = token
            return token

    def _prolonged(self, token: _Token) -> _Token | None:
        now = self._clock()
        if now - self._renewed_at < LOGIN_PAUSE:
            return token
        self._renewed_at = now
        try:
            life = self._ask(
                lambda client: float(client.auth.token.renew_self()["auth"]["lease_duration"]),
                token.value,
            )
        except (_Trouble, Refused, Missing) as fault:
            log.warning("vault_token_not_prolonged", cause=str(fault))
            # A token that Vault no longer knows is replaced; else it may do until its end.
            return None if isinstance(fault, Refused | Missing) or str(fault) == "denied" else token
        if life < token.first_life / 2:
            # It comes to its longest life: a new one takes its place while there is time.
            return None
        return _Token(token.value, token.first_life, life, now)

    def _logged_in(self) -> _Token:
        now = self._clock()
        if now - self._logged_in_at < LOGIN_PAUSE:
            raise _Trouble(self._login_failed)
        # Asked first, so that a login is not used up on a Vault that cannot judge it.
        # A standby node hands requests on to the active one, or answers 307, which is told apart.
        if (away := self._health()) and away != "standby":
            raise _Trouble(away)
        # Whether it succeeds or not: never more than one in ten seconds.
        self._logged_in_at = now
        try:
            value, life = self._ask(self._log_in, "")
        except (_Trouble, Refused, Missing) as fault:
            state = fault.state if isinstance(fault, _Trouble) else "login refused"
            # Vault 1.13 answers 500 to a secret id that is used up; 403 comes of a bound address.
            self._login_failed = "login refused" if state in {"failing", "denied"} else state
            raise _Trouble(self._login_failed) from None
        self._login_failed = "login over"
        log.info("vault_logged_in", lives_seconds=life)
        return _Token(value, life, life, now)

    def _log_in(self, client: Any) -> tuple[str, float]:  # noqa: ANN401 - hvac has no types
        given = client.auth.approle.login(
            role_id=self._login.role_id, secret_id=self._login.secret_id, use_token=False
        )["auth"]
        return str(given["client_token"]), float(given["lease_duration"])

    def _lives(self, token: _Token) -> bool:
        """Say whether Vault still knows a token, so that a denial is one of the policy."""
        try:
            self._ask(lambda client: client.auth.token.lookup_self(), token.value)
        except _Trouble as fault:
            if fault.state != "denied":
                raise
            return False
        except (Missing, Refused):
            return False
        return True

    def _forget(self, token: _Token) -> None:
        with self._guard:
            if self._token is not None and self._token.value == token.value:
                self._token = None

    def _note(self, state: str) -> None:
        """Remember what Vault is like, and tell the log of every change."""
        if state in _DOWN:
            self._down = (state, self._clock() + DOWN_PAUSE)
        if state == self._told:
            return
        self._told = state
        if state:
            log.warning("vault_unavailable", state=state, address=self._host)
        else:
            log.info("vault_back", address=self._host)


def _refuse_redirect(answer: requests.Response, **_: object) -> None:
    """Stop at what hvac would take for an answer.

    Raises:
        TooManyRedirects: it is a redirect, as a standby node sends.
    """
    if 300 <= answer.status_code < 400:  # noqa: PLR2004 - RFC 9110, section 15.4
        answer.close()
        raise requests.TooManyRedirects
