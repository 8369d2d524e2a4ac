"""Settings: the published parts of an instance's configuration at run time, and a person's own.

`PARTS` is the one table of who may see and change which part.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from cvf_app.principal import Role
from cvf_app.subject import Capability
from cvf_app.users.model import Email
from cvf_app.wire import Wire

END = r"(?![\s\S])"
Short = Annotated[str, msgspec.Meta(pattern=rf"^[^\x00-\x1f\x7f]*{END}", max_length=200)]
Long = Annotated[
    str, msgspec.Meta(pattern=rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*{END}", max_length=4000)
]
Address = Annotated[
    str, msgspec.Meta(pattern=rf"^https?://[^\s\x00-\x1f\x7f]+{END}", max_length=2000)
]
Moment = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^\d{{4}}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{{1,9}})?([Zz]|[+-]\d\d:\d\d)?{END}"
    ),
]
Colour = Annotated[str, msgspec.Meta(pattern=f"^[A-Fa-f0-9]{{6}}{END}")]


class BeaconSettings(Wire, frozen=True, kw_only=True):
    """What the Beacon of this instance says of itself."""

    welcome_url: Address
    alternative_url: Address
    beacon_id: Short
    api_version: Short
    description: Long
    environment: Short
    create_date_time: Moment
    update_date_time: Moment


class OwnershipSettings(Wire, frozen=True, kw_only=True):
    """Who runs this instance; anybody may know."""

    address: Short
    email: Email
    name: Short
    description: Long
    logo: Annotated[str, msgspec.Meta(max_length=200_000)]
    url: Address
    organization_id: Short


class DiscoveryEndpoints(Wire, frozen=True, kw_only=True):
    """Where front ends look up terms."""

    genes: Address
    hpo: Address
    ordo: Address
    snomed: Address
    medicine: Address
    reactome: Address
    neo4j: Address


class DiscoverySettings(Wire, frozen=True, kw_only=True):
    """How this instance is asked."""

    endpoints: DiscoveryEndpoints | None = None
    capability: Capability | None = None
    default_budget: Annotated[int, msgspec.Meta(ge=0, le=100)] = 100


class InstanceSettings(Wire, frozen=True, kw_only=True):
    """What this instance is called; anybody may know."""

    name: Short = ""
    url: Address | None = None
    description: Long = ""
    version: Short = ""
    alternative_url: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class FederationSettings(Wire, frozen=True, kw_only=True):
    """How this instance meets people and nodes that it does not know; closed at first."""

    allow_non_client_authenticated: bool = False
    auto_user_registration: bool = False
    anonymous_access: bool = False
    default_ttl: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = msgspec.field(
        name="defaultTTL", default=1
    )


class SystemConfig(Wire, frozen=True, kw_only=True):
    """The settings of this instance, as far as the one who asks may see or change them."""

    beacon_settings: BeaconSettings | None = None
    ownership_settings: OwnershipSettings | None = None
    discovery_settings: DiscoverySettings | None = None
    instance_settings: InstanceSettings | None = None
    federation_settings: FederationSettings | None = None
    nexus_enabled: bool | None = None


PEOPLE = (Role.SERVER_ADMIN, Role.DEVELOPER)
ADMINS = (Role.DATA_ADMIN, *PEOPLE)
PARTS: Mapping[str, tuple[Role, ...]] = {
    "beaconSettings": ADMINS,
    "ownershipSettings": PEOPLE,
    "discoverySettings": (Role.DATA_ADMIN, Role.DEVELOPER),
    "instanceSettings": PEOPLE,
    "federationSettings": ADMINS,
    "nexusEnabled": PEOPLE,
}


class ColorSetting(Wire, frozen=True, kw_only=True):
    """The colours of somebody's pages: the colour they grow from; light, dark or as the system."""

    seed_color: Colour
    theme_mode: Annotated[int, msgspec.Meta(ge=0, le=2)]


class UserSetting(Wire, frozen=True, kw_only=True):
    """Somebody's own settings."""

    color_setting: ColorSetting | None = None
    capability: Capability | None = None


class Maintenance(Wire, frozen=True, kw_only=True):
    """Whether changes are refused for a while, and what people are told meanwhile."""

    maintenance: bool
    message: Annotated[str, msgspec.Meta(pattern=rf"^[^\x00-\x1f\x7f]*{END}", max_length=500)] = ""


class LogEntry(Wire, frozen=True, kw_only=True):
    """What a front end wants in the log; `uuid` is its own name for the event."""

    error: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
    timestamp: Moment
    uuid: Annotated[
        str,
        msgspec.Meta(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}" + END),
    ]
