"""`/mails`: how the letters of the outbox stand, trying one again, and a letter of trial."""

from quart import Blueprint, Response, request

from cvf_app.errors import Invalid
from cvf_app.mail.delivery import Delivery
from cvf_app.mail.model import LetterId, State, Trial
from cvf_app.mail.service import Mails
from cvf_app.parts import use
from cvf_app.web.access import PEOPLE, allow
from cvf_app.web.io import DONE, body, reply, whole_number

bp = Blueprint("mail", __name__)
MOST = 200
MOST_PAGES = 100_000


@bp.get("/mails")
@allow(*PEOPLE)
async def list_letters() -> Response:
    """List letters, newest first: how each stands, neither to whom nor what it says."""
    limit = whole_number("limit", 50, 1, MOST)
    page = whole_number("page", 0, 0, MOST_PAGES)
    return reply(await use(Mails).page(_state(), limit, page * limit))


@bp.put("/mails/<letter_id>/retry")
@allow(*PEOPLE)
async def retry_letter(letter_id: str) -> Response:
    """Try for another day to send a letter that failed."""
    await use(Mails).retry(LetterId(letter_id))
    return reply(DONE)


@bp.post("/mails/test")
@allow(*PEOPLE)
async def send_trial() -> Response:
    """Send a letter of trial at once, and tell how the mail server took it."""
    trial = await body(Trial)
    return reply(await use(Delivery).test(trial.to))


def _state() -> State | None:
    text = request.args.get("state")
    if text is None:
        return None
    words = {state.value: state for state in State}
    if text not in words:
        raise Invalid(f"state is one of {', '.join(words)}.", path="$.state")
    return words[text]
