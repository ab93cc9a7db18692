CREATE TABLE customers (id INTEGER PRIMARY KEY, tenant TEXT, name TEXT, email TEXT, country TEXT, profile TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, tenant TEXT, amount REAL, status TEXT, placed TEXT, note TEXT, lines TEXT);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price REAL, category TEXT);
CREATE TABLE employees (id INTEGER PRIMARY KEY, manager_id INTEGER, name TEXT, dept TEXT, salary INTEGER);
CREATE VIEW order_totals AS SELECT customer_id, tenant, sum(amount) AS total FROM orders GROUP BY customer_id, tenant;
CREATE TABLE secrets (id INTEGER, value TEXT);
