"""Full mode from an empty folder: a person asks for access, is let in, asks, and is shut out.

Real Keycloak, Vault, Redis and a mail server with STARTTLS and login; a headless Chromium is the
person's browser. The person asks for access on the documentation page; an administrator is told
by mail and approves; the person sets a password, logs in from the browser and from a terminal by
device code, and asks the 25 expected questions of the phenopacket sample: of one worker and of
three, of an instance in one piece and of one split by duties. Then the login is revoked, and the
database is searched for everything that must not be readable in it. Pictures stay in build/demo-2.
Exits 1 when any check fails; `--corrupt` changes one expectation first.
"""

import argparse
import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bson import encode as bson  # noqa: E402 - after the path above
from pymongo import MongoClient  # noqa: E402 - see above

from cvf_app.console.server import Server  # noqa: E402 - see above
from cvf_app.console.session import Sessions  # noqa: E402 - see above
from scripts.demo.answers import ask, exact_answers  # noqa: E402 - see above
from scripts.demo.checks import Checks  # noqa: E402 - see above
from scripts.demo.pages import Person  # noqa: E402 - see above
from scripts.demo.stack import Breach, Stack, wait_for  # noqa: E402 - see above
from scripts.demo.watched import Browser, chromium  # noqa: E402 - see above
from tests.support.shared import SHARED  # noqa: E402 - see above

PICTURES = ROOT / "build" / "demo-2"
ADMIN, ADMIN_EMAIL = "ada", "ada.admin@hospital.example"
ASKER = {
    "firstName": "Quirina",
    "lastName": "Vandersloot",
    "email": "quirina.vandersloot@university.example",
    "affiliation": "Zwartewaterland Institute",
    "justification": "We search families with chylomicron-free lymphatic phenotypes.",
}
_SPLIT = ("admin,exporter", "query", "record-compiler", "database-manager", "scheduler")
# Workers of each part that has pages, and the words of `start`.
AS_STARTED: tuple[int, tuple[str, ...]] = (1, ())
SHAPES = {
    "one worker": AS_STARTED,
    "three workers": (3, ()),
    "one worker, split by duties": (1, _SPLIT),
    "three workers, split by duties": (3, _SPLIT),
}
_REVOKED_SECONDS = 60.0


class Course:
    """The demonstration, step by step; every step notes what it checked."""

    def __init__(self, stack: Stack, browser: Browser, data: Path, *, corrupt: bool) -> None:
        """Nothing is done yet."""
        self.stack = stack
        self.browser = browser
        self.person = Person(browser.page, PICTURES)
        self.data = data
        self.checks = Checks()
        self.passwords = {name: secrets.token_urlsafe(12) + "aA1!" for name in ("ada", "asker")}
        self.expected = json.loads((data / "expected.json").read_text())["queries"]
        if corrupt:
            self.expected[0]["count"] += 1

    def run(self) -> None:
        """Do all steps."""
        self.administrator_comes()
        source = self.data_comes_in()
        self.access_is_asked_for()
        user = self.access_is_given()
        self.person_logs_in_at_the_browser()
        self.person_logs_in_at_a_terminal()
        self.questions_are_answered(source, user)
        token = self.sessions("asker").token(self.stack.address, anew=False)
        self.login_is_revoked(user)
        self.nothing_is_readable(token)

    def administrator_comes(self) -> None:
        """Make the first administrator, who sets a password and logs in by device code."""
        self.stack.run(
            *(sys.executable, "-m", "cvf_app", "install"),
            *("--username", ADMIN, "--email", ADMIN_EMAIL),
        )
        link = self.stack.mail(ADMIN_EMAIL, "").link("/realms/")
        self.person.set_password(link, self.passwords["ada"])
        self.device_login("operator", ADMIN, self.passwords["ada"])
        who = self.stack.cvf("whoami")
        self.checks.equal("the first administrator's role", "developer", who["role"])

    def data_comes_in(self) -> str:
        """Take the sample in."""
        source = str(self.stack.cvf("sources", "create", "packets")["sourceId"])
        self.stack.cvf("upload", "packets", str(self.data / "packets"))
        self.stack.cvf("ingest", "packets")
        return source

    def access_is_asked_for(self) -> None:
        """Send the request from the documentation page, as anybody may."""
        self.person.page.call("Network.clearBrowserCookies")
        self.person.go(f"{self.stack.address}/docs")
        status = self.person.call("POST", "/access-requests/", ASKER)
        self.person.picture("1-access-asked")
        self.checks.equal("the request from the page", 200, status)
        self.stack.mail(ASKER["email"], "")
        told = self.stack.mail(ADMIN_EMAIL, "access")
        named = [ASKER[key] for key in ("lastName", "email") if ASKER[key] in told.text]
        self.checks.equal(
            "the mail to the administrator names", [ASKER["lastName"], ASKER["email"]], named
        )

    def access_is_given(self) -> str:
        """Approve it; the person gets a link and sets a password."""
        (waiting,) = [
            one
            for one in self.stack.cvf("access-requests", "list")
            if one["email"] == ASKER["email"]
        ]
        self.stack.cvf("access-requests", "approve", waiting["requestId"], "--username", "quirina")
        link = self.stack.mail(ASKER["email"], "account").link("/realms/")
        self.person.set_password(link, self.passwords["asker"])
        self.person.picture("2-password-set")
        users = {one["username"]: one for one in self.stack.cvf("users", "list")}
        self.checks.equal("the new person's role", "user", users["quirina"]["role"])
        return str(users["quirina"]["userId"])

    def person_logs_in_at_the_browser(self) -> None:
        """Log in from the documentation page through Keycloak's form, and call as oneself."""
        self.person.page.call("Network.clearBrowserCookies")
        self.person.go(f"{self.stack.address}/docs")
        self.person.press(".auth-wrapper .authorize")
        self.person.press(".auth-container .modal-btn.authorize")
        popup = Person(self.browser.opened(self.stack.servers["keycloak"]["address"]), PICTURES)
        popup.see("#kc-login")
        popup.picture("3-login-form")
        popup.log_in("quirina", self.passwords["asker"])
        self.person.until(
            "[...document.querySelectorAll('.auth-container button')]"
            ".some((one) => one.textContent.trim() === 'Logout')"
        )
        self.person.press(".auth-container .btn-done")
        self.checks.equal(
            "user-info from the page", 200, self.person.call("GET", "/auth/user-info")
        )
        self.person.picture("4-logged-in")

    def person_logs_in_at_a_terminal(self) -> None:
        """Log in by device code, in the browser where the person is logged in already."""
        self.device_login("asker", "quirina", self.passwords["asker"])
        self.person.picture("5-device")
        who = self.stack.cvf("whoami", home="asker")
        self.checks.equal("whoami at the terminal", "quirina", who["username"])

    def questions_are_answered(self, source: str, user: str) -> None:
        """Ask everything that has an expected answer, as the person, of every shape."""
        group = ["groups", "create", "demo", "--policy", "list", "--user", user]
        self.stack.cvf(*group, "--source", source)
        for name, (workers, duties) in SHAPES.items():
            if (workers, duties) != AS_STARTED:
                self.stack.stop()
                self.stack.start(*duties, workers=workers)
            server = self.server("asker", self.stack.query_address if duties else "")
            begin = time.monotonic()
            answers = [ask(server, one["query"], source) for one in self.expected]
            print(f"{name}: {len(answers)} answers after {time.monotonic() - begin:.1f} s")
            exact = exact_answers(self.expected, answers)
            self.checks.equal(f"exact answers, {name}", len(self.expected), exact)

    def login_is_revoked(self, user: str) -> None:
        """Take the login away: the next minute ends it, with a token that is still good."""
        token = self.sessions("asker").token(self.stack.address, anew=False)
        self.checks.equal("status before", 200, status_of(self.stack.address, token))
        self.stack.cvf("users", "revoke-login", user)
        begin = time.monotonic()

        def refused() -> int:
            status = status_of(self.stack.address, token)
            return 0 if status == http.client.OK else status

        status = wait_for("the end of the login", refused, _REVOKED_SECONDS)
        print(f"refused {time.monotonic() - begin:.1f} s after the login was revoked")
        self.checks.equal("status after the login was revoked", 401, status)

    def nothing_is_readable(self, token: str) -> None:
        """Search the whole database for what must not be readable in it, by value."""
        secret = [
            *ASKER.values(),
            ADMIN_EMAIL,
            "quirina",
            *self.passwords.values(),
            token,
            self.stack.env["VAULT_SECRET_ID"],
            self.stack.secret_of("vault")["root_token"],
            self.stack.secret_of("smtp")["password"],
            self.stack.secret_of("keycloak")["password"],
        ]
        dump = b"".join(dumped(self.stack.servers["mongodb"]["address"], "demo"))
        found = [value[:12] for value in secret if value.casefold().encode() in dump]
        self.checks.at_least("bytes of the database searched", 100_000, len(dump))
        self.checks.at_least("times that it finds what is there", 1, dump.count(b"packets"))
        self.checks.equal("secrets and personal data readable in it", [], found)

    def device_login(self, home: str, username: str, password: str) -> None:
        """Log in at a terminal: the command shows an address, a person confirms it there."""
        env = self.stack.env | {
            "XDG_CONFIG_HOME": str(self.stack.folder / home),
            # What it shows must come at once, and whole.
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "400",
        }
        command = [sys.executable, "-m", "cvf_app.console", "--server", self.stack.address]
        command += ["login", "--device"]
        print(f"$ {' '.join(command[1:])}", flush=True)
        with (
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as terminal,
            ended(terminal),
        ):
            self.person.go(_address(terminal))
            first = "!!document.querySelector('#username, #kc-login[name=accept], [name=accept]')"
            self.person.until(first)
            if self.person.page.value("!!document.querySelector('#username')"):
                self.person.log_in(username, password)
            self.person.press("[name=accept]")
            self.person.reads("Device Login Successful")
            rest = terminal.communicate(timeout=60)[0]
        if terminal.returncode:
            raise Breach(f"cvf login ended with {terminal.returncode}: {rest}")

    def sessions(self, home: str) -> Sessions:
        """Return the logins kept in this home."""
        return Sessions(self.stack.folder / home / "cafe-variome")

    def server(self, home: str, address: str = "") -> Server:
        """Return the instance, or a part at another address, as the owner of this home asks it."""
        sessions = self.sessions(home)
        own = self.stack.address
        return Server(address or own, lambda anew: sessions.token(own, anew=anew))


@contextlib.contextmanager
def ended(terminal: "subprocess.Popen[str]") -> Iterator[None]:
    """Within the block a command runs; if the block fails, nobody waits for its end."""
    try:
        yield
    except BaseException:  # house: nothing is kept back, whatever was raised goes on
        terminal.kill()
        raise


def status_of(address: str, token: str) -> int:
    """Return the status that somebody with this token is answered."""
    line = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    with contextlib.closing(line):
        line.request("GET", "/auth/user-info", headers={"Authorization": f"Bearer {token}"})
        return line.getresponse().status


def _address(terminal: "subprocess.Popen[str]") -> str:
    said = ""
    for line in terminal.stdout or ():
        said += line
        for word in line.split():
            if word.startswith("http") and "user_code=" in word:
                return word.rstrip(".,")
    raise Breach(f"cvf login showed no address: {said}")


def dumped(address: str, database: str) -> Iterator[bytes]:
    """Yield every document of a database as the bytes it has, in small letters."""
    client: MongoClient[dict[str, Any]] = MongoClient(address)
    with client:
        for name in client[database].list_collection_names():
            for document in client[database][name].find():
                yield bson(document).lower()


def main() -> int:
    """Run the demonstration and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corrupt", action="store_true", help="change one expectation first")
    options.add_argument("--keep", action="store_true", help="leave everything running")
    chosen = options.parse_args()
    program = chromium()
    if SHARED is None or program is None:
        missing = "Chromium is not installed" if SHARED else "the data folder is not beside it"
        print(f"demo-2: left out, since {missing}")
        return 1 if os.environ.get("CI") else 0
    PICTURES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cv3-full-"))
    stack = Stack(folder)
    browser = None
    begin = time.monotonic()
    try:
        stack.up()
        print(f"everything runs after {time.monotonic() - begin:.0f} s: {stack.address}")
        browser = Browser(program, "about:blank")
        course = Course(stack, browser, SHARED / "data" / "phenopackets", corrupt=chosen.corrupt)
        course.run()
    except Breach as breach:
        print(f"demo-2 cannot go on: {breach}")
        return 1
    finally:
        if browser is not None:
            browser.close()
        if not chosen.keep:
            stack.down()
            shutil.rmtree(folder, ignore_errors=True)
    course.checks.table()
    print(f"{course.checks.failed} of {len(course.checks.done)} checks failed", end="; ")
    print(f"{time.monotonic() - begin:.0f} s; pictures in {PICTURES.relative_to(ROOT)}")
    return 1 if course.checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
