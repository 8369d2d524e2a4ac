"""Which database is meant: that of a configuration, or an address given at the command line."""

from urllib.parse import unquote, urlsplit

from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.config import MongoDB
from cvf_app.errors import Invalid

_SCHEMES = ("mongodb", "mongodb+srv")
_CONNECTIONS = 4


def uri_of(given: MongoDB) -> str:
    """Write the address of the database of a configuration."""
    return mongo_uri(
        given.host,
        int(given.port),
        user=given.user,
        password=given.password,
        database=given.database,
    )


def open_at(url: str) -> Mongo:
    """Open the database that an address names: `mongodb://…/NAME?…`, with any of its options.

    Raises:
        Invalid: it is no such address, or it names no database.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise Invalid("The address of a database begins with mongodb:// or mongodb+srv://.")
    if not name:
        raise Invalid("The address must name the database: mongodb://HOST:PORT/NAME")
    return Mongo.open(url, name, _CONNECTIONS)


def open_configured(given: MongoDB) -> Mongo:
    """Open the database of a configuration."""
    return Mongo.open(uri_of(given), given.database, _CONNECTIONS)
