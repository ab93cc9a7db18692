"""What can go wrong with a GPU of this node.

WorkerError
├── GpuUnavailable  (retry)  the driver, a device file or a library is not there, or the GPU fell ill
└── GpuBusy         (retry)  it is promised to somebody else: another host, or the same a moment later, may have one
"""

from __future__ import annotations

from workers.errors import WorkerError


class GpuUnavailable(WorkerError):
    code = "gpu.unavailable"
    retry = True


class GpuBusy(WorkerError):
    code = "gpu.busy"
    retry = True
