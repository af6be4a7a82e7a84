"""The rows of the bench, in the order in which they are measured and shown; a new `tests.load.row.Row` goes here."""

from tests.load import consumers, create, hop, memory, photos, queries, spike, stored, whole_sop
from tests.load.row import Row

ROWS: tuple[Row, ...] = (
    create.AT_64,
    create.AT_1,
    spike.SPIKE,
    whole_sop.WHOLE_SOP,
    stored.STORED,
    photos.PHOTOS,
    hop.HOP,
    consumers.CONSUMERS,
    queries.QUERIES,
    memory.MEMORY,
)
