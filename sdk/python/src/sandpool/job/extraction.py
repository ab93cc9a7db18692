"""How a large or repeated read goes along one of its columns: in key ranges at once, or only what is new since last
time.

    SqlJob(database="shop", sql="select * from orders", extraction=Extraction(column="id", parts=4))
    SqlJob(..., extraction=Extraction(column="updated_at", incremental=True, after="orders-2026-11-25"))

An incremental run reads up to the column's highest value of that moment and leaves that value in its manifest
(`manifest.watermark`); the next run names it by `after` and reads on from there. The chain of manifests is the only
state: a run that is repeated, or submitted twice, reads the same again.
"""

from __future__ import annotations

import msgspec

from sandpool.job.fields import check_job_id, check_types, require

MAX_PARTS = 64
MAX_COLUMN_BYTES = 63
"""PostgreSQL cuts longer names."""


class Extraction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Along which column a statement's result is read. Raises InvalidJob when a field is out of its range."""

    column: str
    """Name of an output column: of an integer, date or timestamp type where `parts` is above 1."""
    parts: int = 1
    """Key ranges that are read at once, all in one snapshot of the database, into one result."""
    incremental: bool = False
    """Read up to the column's highest value now, and record that value. Rows that appear later below it (a transaction
    that was still open) are not read by the next run: take a column that only grows as rows become visible."""
    after: str = ""
    """Id of the run before, in the same volume; only rows above its watermark are read. Empty: from the beginning,
    and rows whose column is NULL too."""

    def __post_init__(self) -> None:
        check_types(self, "extraction.")
        size = len(self.column.encode("utf-8", "replace"))
        require(0 < size <= MAX_COLUMN_BYTES, "extraction.column", f"1 to {MAX_COLUMN_BYTES} bytes")
        require("\0" not in self.column, "extraction.column", "no NUL")
        require(1 <= self.parts <= MAX_PARTS, "extraction.parts", f"1 to {MAX_PARTS}")
        require(self.incremental or not self.after, "extraction.after", "only where `incremental` is true")
        if self.after:
            check_job_id(self.after)
