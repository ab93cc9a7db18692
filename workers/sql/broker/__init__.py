"""The broker: a database's PostgreSQL protocol (v3) for code that holds no credential. `broker.py` is the door."""
