CREATE TABLE customers (
    id integer PRIMARY KEY, tenant text NOT NULL, name text NOT NULL, email text, country text,
    tags text[] NOT NULL DEFAULT '{}', profile jsonb NOT NULL DEFAULT '{}', created timestamptz NOT NULL
);
CREATE TABLE orders (
    id integer PRIMARY KEY, customer_id integer, tenant text NOT NULL, amount numeric(10, 2), status text NOT NULL,
    placed date NOT NULL, note text, lines jsonb NOT NULL DEFAULT '[]'
);
CREATE TABLE products (
    id integer PRIMARY KEY, name text NOT NULL, price numeric(8, 2), category text, attrs json, body text, spot point
);
CREATE TABLE events (
    id bigint PRIMARY KEY, tenant text NOT NULL, at timestamptz NOT NULL, kind text, payload jsonb, during tstzrange
);
CREATE TABLE employees (
    id integer PRIMARY KEY, manager_id integer, name text NOT NULL, dept text, salary integer, hired date
);
CREATE TABLE "Mixed Case" ("Key" integer PRIMARY KEY, "select" text, "a""b" integer);
CREATE VIEW order_totals AS
    SELECT customer_id, tenant, sum(amount) AS total, count(*) AS orders FROM orders GROUP BY customer_id, tenant;
CREATE TABLE secrets (id integer PRIMARY KEY, value text);
