"""The door: `cvf_app.app:app` is the one program; the environment names its file and duties."""

from cvf_app.assembly import create_app
from cvf_app.config import load, surroundings
from cvf_app.duties import parse

_around = surroundings()
app = create_app(load(_around.config_path), parse(_around.duties), grace=_around.grace)
