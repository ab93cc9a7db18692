-- What sessions see and what they must not: everything that the policy hides has "hush" in its name, comment or data.
CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE TYPE place AS (street text, city text);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE hush_mood AS ENUM ('hush_low', 'hush_high');
CREATE DOMAIN hush_domain AS text CHECK (VALUE <> 'hush');
CREATE SCHEMA app;
CREATE SCHEMA hush_schema;
CREATE TABLE carriers (code text PRIMARY KEY, name text NOT NULL, mood mood, seat place, rating positive);
CREATE TABLE hush_table (
    id integer PRIMARY KEY, value text DEFAULT 'hush_default', feeling hush_mood, carrier text REFERENCES carriers
);
CREATE TABLE trips (
    id serial PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY, carrier text NOT NULL REFERENCES carriers (code),
    distance integer NOT NULL DEFAULT 0 CHECK (distance >= 0), taken timestamptz DEFAULT now(), price numeric(10, 2),
    tags text[], details jsonb, hush_column text DEFAULT 'hush_value', hush_id integer REFERENCES hush_table,
    derived text GENERATED ALWAYS AS (upper(hush_column)) STORED, doubled integer GENERATED ALWAYS AS (distance * 2) STORED,
    CONSTRAINT trips_distance_price CHECK (price > distance), CONSTRAINT hush_check CHECK (hush_column <> 'x')
);
CREATE INDEX trips_carrier ON trips (carrier, distance DESC) INCLUDE (price);
CREATE INDEX hush_index ON trips (hush_column);
CREATE INDEX hush_expression ON trips (lower(carrier || hush_column));
CREATE INDEX hush_partial ON trips (distance) WHERE hush_column IS NOT NULL;
CREATE INDEX carriers_lower ON carriers (lower(name)) WHERE code <> 'XX';
CREATE TABLE app.stops (
    trip integer REFERENCES trips (id) ON DELETE CASCADE, position smallint, label varchar(20), PRIMARY KEY (trip, position),
    UNIQUE (label), CONSTRAINT hush_foreign FOREIGN KEY (trip) REFERENCES hush_table (id)
);
CREATE TABLE readings (at date NOT NULL, value double precision) PARTITION BY RANGE (at);
CREATE TABLE readings_2024 PARTITION OF readings FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE hush_partition PARTITION OF readings FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE hush_schema.hush_other (hush_key integer PRIMARY KEY, hush_text text);
CREATE SEQUENCE hush_sequence;
CREATE VIEW trip_totals AS
    SELECT t.carrier, count(*) AS trips, sum(t.distance) AS distance FROM trips t
    LEFT JOIN hush_table h ON h.id = t.hush_id GROUP BY t.carrier;
CREATE VIEW hush_view AS SELECT * FROM hush_table;
CREATE MATERIALIZED VIEW busy_carriers AS SELECT code FROM carriers WHERE mood = 'busy';
CREATE FUNCTION hush_function(integer) RETURNS text LANGUAGE sql AS 'SELECT ''hush_body''::text';
CREATE FUNCTION half(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 2 -- hush_source';
CREATE FUNCTION hush_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER hush_watch BEFORE INSERT ON trips FOR EACH ROW EXECUTE FUNCTION hush_trigger();
CREATE POLICY hush_policy ON app.stops USING (label <> 'hush');
CREATE STATISTICS hush_statistics ON carrier, hush_column FROM trips;
COMMENT ON TABLE trips IS 'every trip';
COMMENT ON COLUMN trips.distance IS 'in miles';
COMMENT ON COLUMN trips.hush_column IS 'hush: a note';
COMMENT ON TABLE hush_table IS 'hush: what nobody may see';
COMMENT ON INDEX trips_carrier IS 'for the board';
COMMENT ON INDEX hush_index IS 'hush: a lookup';
COMMENT ON CONSTRAINT trips_distance_price ON trips IS 'paid by the mile';
COMMENT ON TYPE mood IS 'how they are';
COMMENT ON TYPE hush_mood IS 'hush: how they are';
COMMENT ON FUNCTION hush_function(integer) IS 'hush: a function';
COMMENT ON SCHEMA hush_schema IS 'hush: a schema';
COMMENT ON SCHEMA app IS 'an application';
INSERT INTO carriers VALUES ('AA', 'American', 'busy', ROW ('Main', 'Dallas'), 5), ('B6', 'Blue', 'calm', NULL, 4);
INSERT INTO hush_table VALUES (1, 'hush_row', 'hush_low', 'AA');
INSERT INTO trips (carrier, distance, price, hush_column, hush_id, details)
    SELECT 'AA', n, n + 1, 'hush_' || n, 1, '{"a": 1}' FROM generate_series(1, 50) n;
INSERT INTO app.stops SELECT 1, 1, 'first';
INSERT INTO readings VALUES ('2024-05-01', 1.5), ('2025-05-01', 2.5);
INSERT INTO hush_schema.hush_other VALUES (1, 'hush_text');
REFRESH MATERIALIZED VIEW busy_carriers;
ANALYZE;
