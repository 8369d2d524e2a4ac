"""The pages of a demonstration as a person uses them: forms filled, buttons pressed, words read."""

import json
import time
from pathlib import Path

from scripts.demo.stack import Breach
from scripts.demo.watched import Page

_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.1
# React hears of a value only if it is set as a person's typing sets it.
_TYPE = """(() => {
  const field = document.querySelector(%s), value = %s;
  const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
  Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, value);
  field.dispatchEvent(new Event('input', { bubbles: true }));
  field.dispatchEvent(new Event('change', { bubbles: true }));
})()"""
_OPERATION = """[...document.querySelectorAll('.opblock')].find((block) =>
  block.querySelector('.opblock-summary-method').textContent.trim() === %s &&
  block.querySelector('.opblock-summary-path').dataset.path === %s)"""


class Person:
    """Somebody at a page; each method waits until the page is as far."""

    def __init__(self, page: Page, pictures: Path) -> None:
        """Use this page, and keep pictures in this folder."""
        self.page = page
        self._pictures = pictures

    def go(self, address: str) -> None:
        """Open an address."""
        self.page.call("Page.navigate", url=address)

    def until(self, expression: str) -> object:
        """Wait until an expression is true, and return its value."""
        until = time.monotonic() + _PATIENCE_SECONDS
        found: object = None
        while time.monotonic() < until:
            # While one page goes and the next one comes, there is nobody to ask.
            try:
                found = self.page.value(expression)
            except OSError:
                found = None
            if found:
                return found
            time.sleep(_LOOK_SECONDS)
        shot = self.picture("stuck")
        raise Breach(f"the page never showed {expression!r}; see {shot}")

    def see(self, selector: str) -> None:
        """Wait for an element."""
        self.until(f"!!document.querySelector({json.dumps(selector)})")

    def type(self, selector: str, value: str) -> None:
        """Write into a field."""
        self.see(selector)
        self.page.value(_TYPE % (json.dumps(selector), json.dumps(value)))

    def press(self, selector: str) -> None:
        """Press a button or follow a link."""
        self.see(selector)
        self.page.value(f"document.querySelector({json.dumps(selector)}).click()")

    def reads(self, words: str) -> bool:
        """Wait until these words stand on the page."""
        return bool(self.until(f"document.body.innerText.includes({json.dumps(words)})"))

    def picture(self, name: str) -> Path:
        """Keep what the page looks like now."""
        return self.page.picture(self._pictures / f"{name}.png")

    def log_in(self, username: str, password: str) -> None:
        """Fill in the form of Keycloak."""
        self.type("#username", username)
        self.type("#password", password)
        self.press("#kc-login")

    def set_password(self, link: str, password: str) -> None:
        """Follow the link of an invitation and choose a password."""
        self.go(link)
        self.press("#kc-info-message a, #kc-content a")
        self.type("#password-new", password)
        self.type("#password-confirm", password)
        self.press("#kc-form-buttons [type=submit], #kc-passwd-update-form [type=submit]")
        self.reads("updated")

    def call(self, method: str, path: str, body: object = None) -> int:
        """Try an operation on the documentation page and return the status it shows."""
        found = _OPERATION % (json.dumps(method), json.dumps(path))
        self.until(f"!!({found})")
        self.page.value(f"{found}.id = 'tried'")
        if not self.page.value(f"{found}.classList.contains('is-open')"):
            self.press("#tried .opblock-summary-control")
        self.press("#tried .try-out__btn:not(.cancel)")
        if body is not None:
            self.type("#tried textarea.body-param__text", json.dumps(body, indent=2))
        self.press("#tried .execute")
        status = self.until(
            "document.querySelector('#tried .live-responses-table tbody .response-col_status')"
            "?.textContent.trim()"
        )
        self.page.value("document.querySelector('#tried').scrollIntoView()")
        self.page.value("document.querySelector('#tried').id = ''")
        return int(str(status).split()[0])
