"""What this program wants of a database: the table of all collections, indices and shapes.

The table is made of what every store declares beside itself (`INDICES`) and of the shapes of
documents (`migrations/shapes.py`). `cvf db revise` compares it with a database.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cvf_app.assembly import Parts, open_backends
from cvf_app.backends.keystore import FileKeyStore
from cvf_app.config import Config, Data, Identity, Mode, Secrets
from cvf_app.migrations.drawing import NOWHERE, Drawing
from cvf_app.migrations.drawing import declared as declared_by
from cvf_app.migrations.model import Declared

NO_ISSUER = "http://127.0.0.1:1"


async def declared() -> Mapping[str, Declared]:
    """Return what the stores of this program declare; nothing is connected to."""
    with TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        await FileKeyStore.open(keys, create=True).close()
        config = Config(
            data=Data(upload_path=folder),
            secrets=Secrets(provider="file", path=str(keys)),
            identity=Identity(provider="oidc", issuer=NO_ISSUER),
            mode=Mode.LOCAL,
        )
        async with open_backends(config) as backends:
            drawn = Drawing.open(NOWHERE, "drawing", 1)
            try:
                onto = replace(backends, mongo=drawn, heavy=drawn)
                parts = Parts.build(config, onto, answers_here=False)
                return await declared_by(drawn, parts.stores)
            finally:
                drawn.close()
