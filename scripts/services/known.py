"""Which services there are."""

from collections.abc import Sequence

from scripts.services.databases import MongoDB, MongoDBJava, Redis
from scripts.services.debian import Chromium
from scripts.services.keycloak import Keycloak
from scripts.services.neo4j import Neo4j
from scripts.services.oidc_provider import OidcProvider
from scripts.services.prometheus import Alertmanager, Prometheus
from scripts.services.service import Service
from scripts.services.smtp import Smtp
from scripts.services.vault import Vault, VaultSealed

_ALL = (
    Redis,
    MongoDB,
    MongoDBJava,
    Smtp,
    Prometheus,
    Alertmanager,
    OidcProvider,
    Keycloak,
    Neo4j,
    Vault,
    VaultSealed,
    Chromium,
)
KNOWN: dict[str, Service] = {one.name: one() for one in _ALL}


def named(names: Sequence[str], *, for_up: bool) -> list[Service]:
    """Return the services of these names, in the order in which they are best done; else all."""
    if names:
        return [service for name, service in KNOWN.items() if name in names]
    return [service for service in KNOWN.values() if not (for_up and service.by_name_only)]
