"""The resident runner: the process inside a sandbox that runs code, commands and file requests for its host.

Runs inside as `python3 -I /opt/sandpool [SOCKET]` with nothing but the standard library (Python 3.9 or newer); the host
never imports it and trusts nothing it says. In import order: `frames` (bytes), `link` (the connection out), `streams`
(stdout and stderr), `interrupts`, `seeds`, `bundles` (values as MIME), `cells` (code), `terminal`, `commands`, `files`,
`watches`, `service`.
"""
