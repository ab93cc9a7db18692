"""Private servers on this machine (RabbitMQ, PostgreSQL) for the demo, `sandpool up --local`, tests and benchmarks.

Everything listens on loopback only, keeps its files in one folder, and ends with the process that started it, however
that process ends. Never used for a production cluster, which is given the addresses of real servers.
"""
