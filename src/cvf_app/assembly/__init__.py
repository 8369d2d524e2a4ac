"""Where everything is made, once, in an order you can read: connections, then parts, then the app.

`open_backends` opens what leaves this process. `Parts.build` makes each service. `create_app`
registers what the duties bring, refuses handlers that do not say who may call them, and starts the
loops. `install` is what an operator runs once for a new instance.
"""

from cvf_app.assembly.connections import Backends, OpenBackends, open_backends, redis_url_of
from cvf_app.assembly.installing import install
from cvf_app.assembly.parts import Parts
from cvf_app.assembly.serving import create_app

__all__ = [
    "Backends",
    "OpenBackends",
    "Parts",
    "create_app",
    "install",
    "open_backends",
    "redis_url_of",
]
