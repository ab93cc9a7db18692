CREATE TABLE customers (id INTEGER PRIMARY KEY, tenant VARCHAR, name VARCHAR, email VARCHAR, country VARCHAR, tags VARCHAR[], profile STRUCT(age INTEGER, city VARCHAR));
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, tenant VARCHAR, amount DECIMAL(10, 2), status VARCHAR, placed DATE, note VARCHAR, lines JSON);
CREATE TABLE products (id INTEGER PRIMARY KEY, name VARCHAR, price DECIMAL(8, 2), category VARCHAR);
CREATE TABLE employees (id INTEGER PRIMARY KEY, manager_id INTEGER, name VARCHAR, dept VARCHAR, salary INTEGER);
CREATE VIEW order_totals AS SELECT customer_id, tenant, sum(amount) AS total FROM orders GROUP BY ALL;
CREATE TABLE secrets (id INTEGER, value VARCHAR);
