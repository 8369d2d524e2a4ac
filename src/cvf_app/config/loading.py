"""The file and the environment, which are read here and nowhere else."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cvf_app.config.checks import check
from cvf_app.config.sections import Config
from cvf_app.errors import Invalid
from cvf_app.overrides import overridden
from cvf_app.wire import convert, decode


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check the configuration file, with what the environment puts in its place.

    Raises:
        Invalid: the file is missing or wrong, or a variable names no key; the sentence and path
            say what to mend.
    """
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise Invalid(
            f"There is no readable configuration at {path}: "
            "copy instance_config.json.example there, or name another file in CV3_CONFIG."
        ) from fault
    given = os.environ if environ is None else environ
    changed = overridden(decode(raw, dict[str, object]), Config, given)
    config = convert(changed, Config)
    check(config)
    return config


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment gives: the file's place, the duties of this process, the Vault login.

    `vault_ca` names a file of certificates; without it what the system trusts is trusted.
    `grace` is how many seconds requests and jobs have when the guard asks us to end; 0 when no
    guard keeps us.
    """

    config_path: Path
    duties: str
    grace: float
    vault_role_id: str
    vault_secret_id: str
    vault_ca: str

    def __repr__(self) -> str:
        """Show no secret, wherever this is printed."""
        return f"Surroundings(config_path={self.config_path}, duties={self.duties!r})"


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    """Read the environment: the variables that begin with `CV3_`, and the Vault login.

    Raises:
        Invalid: `CV3_GRACEFUL_TIMEOUT` is no number.
    """
    given = os.environ if environ is None else environ
    folder = Path(given.get("CV3_APP_PATH", "."))
    grace = given.get("CV3_GRACEFUL_TIMEOUT") or "30"
    if not grace.isdecimal():
        raise Invalid(f"CV3_GRACEFUL_TIMEOUT is a number of seconds, not '{grace}'.")
    return Surroundings(
        config_path=Path(given.get("CV3_CONFIG", folder / "instance_config.json")),
        duties=given.get("CV3_DUTIES", ""),
        grace=float(grace) if given.get("CV3_KEPT") else 0.0,
        vault_role_id=given.get("VAULT_ROLE_ID", ""),
        vault_secret_id=given.get("VAULT_SECRET_ID", ""),
        vault_ca=given.get("VAULT_CACERT", ""),
    )
