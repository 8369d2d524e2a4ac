"""What the rail runs for sources."""

from cvf_app.jobs.handler import Handler
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.model import Ingest, Reindex, Remap, Retype
from cvf_app.sources.retyping import Retyping
from cvf_app.wire import Job


def handlers(ingestion: Ingestion) -> dict[type[Job], Handler]:
    """Return how each kind of a source's jobs is done and undone."""
    retyping = Retyping(ingestion)
    return {
        Ingest: Handler(run=ingestion.ingest, undo=ingestion.undo),
        Remap: Handler(run=ingestion.remap, undo=ingestion.undo),
        Reindex: Handler(run=ingestion.reindex, undo=ingestion.undo),
        Retype: Handler(run=retyping.retype, undo=retyping.undo),
    }
