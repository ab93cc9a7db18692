"""Every way in which work can go wrong, each with its ending and whether another attempt may help.

    WorkerError
    ├── DatabaseError
    │   ├── DatabaseUnavailable   (retry)  down, starting, out of connections, connection lost
    │   ├── DatabaseRefusesRole            the role is wrong or may do too much; says which grant
    │   ├── StatementFailed                the database refused or failed the statement; carries the SQLSTATE
    │   ├── StatementConflict     (retry)  serialization failure or deadlock: the same statement may succeed
    │   ├── StatementTimedOut              ends TimedOut
    │   ├── StatementTooCostly             ends Denied: the planner's estimate is above the policy's ceiling
    │   ├── JobConflict                    the ledger knows this job id with other work
    │   ├── ReturnedTooMuch                ends OutputCapped: RETURNING is over its limits, nothing was changed
    │   ├── InvalidParameter               a parameter has no value of the declared type
    │   └── UnrepresentableValue           a value that the result's Arrow type cannot hold exactly
    ├── VolumeError
    │   ├── VolumeUnavailable     (retry)  refusing, slow or away
    │   ├── VolumeFull            (retry)  no space left
    │   └── VolumeCorrupt                  an object is not what its checksum says
    ├── PoolClosed                (retry)  the pool is draining or gone; another may take the job
    │   └── PoolBusy              (retry)  no connection came free in time; the statement did not begin
    └── ConfigurationError                 a policy, database or volume definition that cannot be used

Vendor errors are translated into these at the fence (the files that may import the vendor), which tests prove.
Messages are shown to the tenant: they never carry row values, DSNs or host names.
"""

from __future__ import annotations

from typing import ClassVar

from sandpool.outcome import Ending, ErrorInfo


class WorkerError(Exception):
    """Root. `code` is the stable dotted id that outcomes carry."""

    code: ClassVar[str] = "worker.failed"
    retry: ClassVar[bool] = False
    ending: ClassVar[Ending] = Ending.Failed

    def __init__(self, message: str, *, hint: str = "", sqlstate: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.sqlstate = sqlstate

    def info(self) -> ErrorInfo:
        """This error as outcomes carry it."""
        return ErrorInfo(self.code, self.message, self.hint, self.sqlstate, self.retry)


class DatabaseError(WorkerError):
    code = "database.failed"


class DatabaseUnavailable(DatabaseError):
    code = "database.unavailable"
    retry = True


class DatabaseRefusesRole(DatabaseError):
    code = "database.role"


class StatementFailed(DatabaseError):
    code = "statement.failed"


class StatementConflict(DatabaseError):
    code = "statement.conflict"
    retry = True


class StatementTimedOut(DatabaseError):
    code = "statement.timeout"
    ending = Ending.TimedOut


class StatementTooCostly(DatabaseError):
    code = "cost.max"
    ending = Ending.Denied


class JobConflict(DatabaseError):
    code = "job.id_conflict"


class ReturnedTooMuch(DatabaseError):
    code = "output.capped"
    ending = Ending.OutputCapped


class InvalidParameter(DatabaseError):
    code = "statement.parameter"


class UnrepresentableValue(DatabaseError):
    code = "result.unrepresentable"


class VolumeError(WorkerError):
    code = "volume.failed"


class VolumeUnavailable(VolumeError):
    code = "volume.unavailable"
    retry = True


class VolumeFull(VolumeError):
    code = "volume.full"
    retry = True


class VolumeCorrupt(VolumeError):
    code = "volume.corrupt"


class PoolClosed(WorkerError):
    code = "pool.closed"
    retry = True


class PoolBusy(PoolClosed):
    code = "pool.busy"


class ConfigurationError(WorkerError):
    code = "configuration.invalid"
