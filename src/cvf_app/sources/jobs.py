"""What the rail runs for sources."""

from cvf_app.jobs.handler import Handler
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.model import Ingest, Reindex, Remap
from cvf_app.wire import Job


def handlers(ingestion: Ingestion) -> dict[type[Job], Handler]:
    """Return how each kind of a source's jobs is done and undone."""
    return {
        Ingest: Handler(run=ingestion.ingest, undo=ingestion.undo),
        Remap: Handler(run=ingestion.remap, undo=ingestion.undo),
        Reindex: Handler(run=ingestion.reindex, undo=ingestion.undo),
    }
