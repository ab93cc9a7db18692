"""Runs programs that nobody has read: one gVisor sandbox each, with hard limits, from an image or from a snapshot.

In import order: `errors`, `limits` and `image` (data), `bundle` (pure: image + limits -> OCI spec), `cgroup` and
`reaper` (the kernel's side of a sandbox), `runsc` (the only file that starts processes), `snapshot`, `sandboxes` (the
node's sandboxes: create, restore, destroy, reconcile). `runner/` runs inside a sandbox; `wire`, `replies`, `session`
and `listener` are the host's end of its socket. No RabbitMQ, no Ray, no scheduler here.
"""
