"""What can go wrong around the code of a job, beside the sandbox itself; each ends the job in its own way.

SandboxError
├── InputMissing              there is no such object in the volume
├── InputTooLarge             the inputs together are larger than a job may have
├── InputChanged              an object is not what the job that made it recorded
├── StagingFailed    (retry)  the host's own disk does not take the inputs
├── OutputMissing             an output asked for by name is not there, or no longer
├── OutputOdd                 an output asked for by name is no regular file
├── OutputsStuck              the sandbox did not hand its outputs over in time
├── TooManyOutputs            ends OutputCapped: more files than the job may leave
├── OutputsTooLarge           ends OutputCapped: more bytes than the job may leave
└── ResultInvalid             the code left no table, or one that cannot be a result
"""

from __future__ import annotations

from sandpool.outcome import Ending
from workers.sandbox.errors import SandboxError


class InputMissing(SandboxError):
    code = "input.missing"


class InputTooLarge(SandboxError):
    code = "input.too_large"


class InputChanged(SandboxError):
    code = "input.changed"


class StagingFailed(SandboxError):
    code = "input.staging"
    retry = True


class OutputMissing(SandboxError):
    code = "output.missing"


class OutputOdd(SandboxError):
    code = "output.kind"


class OutputsStuck(SandboxError):
    code = "output.stuck"


class TooManyOutputs(SandboxError):
    code = "output.files"
    ending = Ending.OutputCapped


class OutputsTooLarge(SandboxError):
    code = "output.bytes"
    ending = Ending.OutputCapped


class ResultInvalid(SandboxError):
    code = "result.invalid"
