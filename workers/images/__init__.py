"""Makes and keeps the root filesystems that sandboxes start from.

In import order: `errors`, `recipe` (image.toml as data, its digest), `sources` (the machine's apt sources as data),
`tree` (finishing and naming a root filesystem), `headers` and `archive` (OCI archives as data), `store` (what is built,
locks, names), `build` (the only file that starts processes). Used by the command line and by hosts. No sandbox is
started here.
"""
