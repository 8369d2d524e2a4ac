"""What an operator does by hand on the machine itself, with the instance's own configuration."""

from cvf_app.assembly import Parts, open_backends
from cvf_app.config import Config
from cvf_app.settings.model import Maintenance
from cvf_app.wire import convert


async def maintain(config: Config, *, on: bool, message: str) -> None:
    """Begin or end maintenance; the processes of the instance follow within seconds.

    Raises:
        Invalid: the message has line breaks, or is too long.
    """
    wanted = convert({"maintenance": on, "message": message}, Maintenance)
    async with open_backends(config) as backends:
        parts = Parts.build(config, backends, answers_here=False)
        await parts.settings.maintain(wanted)


async def shared_secret(config: Config) -> str:
    """Return the secret that operators' tools share with the instance.

    Raises:
        Unavailable: the instance was never installed.
    """
    async with open_backends(config) as backends:
        return await Parts.build(config, backends, answers_here=False).operators.secret()
