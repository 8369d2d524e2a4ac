"""`instance_config.json` as one frozen value: every key, type and default stands here.

Promises: only this module reads the file or the environment; an unknown key, a missing key
or a wrong type stops the load with the path of the fault (`$.MongoDB.Port`). Both generations
of the published file load: `Port` as text or number, `RedirectURL` or `RedirectURLs`, CORS
entries as text or list, with or without the blocks `OpenAPI` and `Neo4j`. Passwords in the
file are for instances without a secret store; everything else secret comes from the store.
Any key may be given by the environment instead (`overrides.py`), as containers do.
"""

from cvf_app.config.checks import as_list, is_address
from cvf_app.config.loading import Surroundings, load, surroundings
from cvf_app.config.sections import (
    Config,
    Cors,
    Data,
    Email,
    EmailFrom,
    Identity,
    Jobs,
    JobSize,
    Keycloak,
    Legacy,
    Logging,
    Loki,
    LokiAuth,
    Metrics,
    Mode,
    MongoDB,
    Neo4j,
    NexusMode,
    OpenApi,
    Prometheus,
    Redis,
    Secrets,
    Smtp,
    SmtpAuthentication,
    SplunkHec,
    Vault,
)

__all__ = [
    "Config",
    "Cors",
    "Data",
    "Email",
    "EmailFrom",
    "Identity",
    "JobSize",
    "Jobs",
    "Keycloak",
    "Legacy",
    "Logging",
    "Loki",
    "LokiAuth",
    "Metrics",
    "Mode",
    "MongoDB",
    "Neo4j",
    "NexusMode",
    "OpenApi",
    "Prometheus",
    "Redis",
    "Secrets",
    "Smtp",
    "SmtpAuthentication",
    "SplunkHec",
    "Surroundings",
    "Vault",
    "as_list",
    "is_address",
    "load",
    "surroundings",
]
