"""Logging in on a machine without a browser: the refusals of the device flow (RFC 8628).

The person opens the provider's page on another machine and types a short code there; the first
machine asks again and again meanwhile. What each refusal means stands in the `error` field
(section 3.5): the statuses differ from provider to provider.
"""

from collections.abc import Mapping

from cvf_app.errors import Invalid, Unauthenticated

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Pending(Invalid):
    """The person has not agreed yet: ask again after the interval."""

    code = "authorization_pending"

    def __init__(self) -> None:
        super().__init__("Nobody has confirmed this login yet; ask again.", path="$.device_code")


class SlowDown(Invalid):
    """We asked too often: wait five seconds longer from now on."""

    code = "slow_down"

    def __init__(self) -> None:
        super().__init__("Ask five seconds later from now on.", path="$.device_code")


class DeviceExpired(Unauthenticated):
    """Nobody agreed in time."""

    code = "expired_token"

    def __init__(self) -> None:
        super().__init__("Nobody confirmed this login in time; begin again.")


class DeviceDenied(Unauthenticated):
    """The person, or the provider, said no."""

    code = "access_denied"

    def __init__(self) -> None:
        super().__init__("This login was denied at the identity provider.")


REFUSALS: Mapping[
    str, type[Pending] | type[SlowDown] | type[DeviceExpired] | type[DeviceDenied]
] = {
    "authorization_pending": Pending,
    "slow_down": SlowDown,
    "expired_token": DeviceExpired,
    "access_denied": DeviceDenied,
}
