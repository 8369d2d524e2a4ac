"""The door: `cvf_app.app:app` is the one program; the environment names its file and duties.

While it is loaded nothing is garbage, and what was loaded stays: the collector is told so, which
takes a fifth off a start and keeps its later rounds short.
"""

import gc

gc.disable()

from cvf_app.assembly import create_app  # noqa: E402 - see above
from cvf_app.config import load, surroundings  # noqa: E402 - see above
from cvf_app.duties import parse  # noqa: E402 - see above

_around = surroundings()
app = create_app(load(_around.config_path), parse(_around.duties), grace=_around.grace)

gc.freeze()
gc.enable()
