"""Writing and reading a result takes the same memory whether it has some rows or ten times as many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_RUN = """if True:
    import json, random, sys
    from datetime import UTC, datetime
    import pyarrow as pa
    from sandpool import results
    from sandpool.outcome import Ending, Outcome
    from workers.volumes.result import ResultWriter
    from workers.volumes.spec import VolumeSpec
    from workers.volumes.store import open_volume

    def peak_mib():
        return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024

    def reset_peak():
        open("/proc/self/clear_refs", "w").write("5")

    volume = open_volume(VolumeSpec(name="results", url=sys.argv[1]))
    noise = random.Random(7)
    batch = pa.RecordBatch.from_arrays([pa.array([noise.randbytes(64) for _ in range(16_384)])], names=["noise"])
    writer = ResultWriter(volume, "acme", "job", "1-a", batch.schema, (), part_bytes=40_000_000)
    reset_peak()
    for _ in range(int(sys.argv[2])):
        writer.write(batch)
    manifest = writer.finish()
    written = peak_mib()
    outcome = Outcome(job_id="job", tenant="acme", ending=Ending.Succeeded, digest="d", volume="v",
                      volume_url=volume.url, ended_at=datetime.now(UTC), manifest=manifest)
    reset_peak()
    rows = sum(batch.num_rows for batch in results.read_batches(outcome))
    assert rows == manifest.rows == 16_384 * int(sys.argv[2])
    print(json.dumps({"written": written, "read": peak_mib(), "bytes": manifest.size_bytes}))
"""


def _peaks(root: Path, batches: int) -> dict[str, float]:
    run = subprocess.run(
        [sys.executable, "-c", _RUN, root.as_uri(), str(batches)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    peaks: dict[str, float] = json.loads(run.stdout)
    return peaks


def test_memory_is_flat_while_rows_grow_tenfold(tmp_path: Path) -> None:
    some, many = _peaks(tmp_path / "some", 40), _peaks(tmp_path / "many", 400)
    assert many["bytes"] > 400_000_000
    assert many["written"] < some["written"] + 60
    assert many["read"] < some["read"] + 60
