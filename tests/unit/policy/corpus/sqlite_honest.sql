SELECT 1 AS a, 'x' AS b, NULL AS c, 1.5 AS d, x'ff' AS e, -3 AS f
SELECT * FROM products ORDER BY id
SELECT p.* FROM products p ORDER BY p.id DESC LIMIT 5
SELECT id, amount FROM orders WHERE status = 'paid' ORDER BY id
SELECT id FROM orders ORDER BY id LIMIT 10 OFFSET 5
SELECT id FROM orders ORDER BY id LIMIT 5, 3
SELECT id FROM orders ORDER BY id LIMIT -1 OFFSET 4
SELECT id FROM orders ORDER BY id LIMIT 2 + 3
SELECT count(*) AS a, count(amount) AS b, count(DISTINCT status) AS c, sum(amount) AS d, min(placed) AS e, total(amount) AS f, avg(amount) AS g FROM orders
SELECT status, count(*) AS n FROM orders GROUP BY status ORDER BY 1
SELECT status AS s, count(*) AS n FROM orders GROUP BY s HAVING n > 10 ORDER BY n DESC, s
SELECT strftime('%Y-%m', placed) AS m, sum(amount) AS t FROM orders GROUP BY m ORDER BY m
SELECT date(placed, '+1 month') AS a, julianday(placed) AS b, time('12:00') AS c, datetime(placed, 'start of month') AS d, unixepoch(placed) AS e FROM orders ORDER BY id LIMIT 3
SELECT id, row_number() OVER (PARTITION BY status ORDER BY id) AS r FROM orders ORDER BY id LIMIT 10
SELECT id, lag(amount) OVER w AS a, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS b FROM orders WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 10
SELECT id, rank() OVER (ORDER BY amount DESC) AS a, ntile(4) OVER (ORDER BY id) AS b, first_value(id) OVER (PARTITION BY status ORDER BY id) AS c FROM orders ORDER BY id LIMIT 10
SELECT count(*) FILTER (WHERE amount > 50) AS a FROM orders
SELECT group_concat(status, ',') AS g FROM (SELECT status FROM orders ORDER BY id LIMIT 4)
SELECT group_concat(DISTINCT status) AS g FROM orders
SELECT DISTINCT status FROM orders ORDER BY status
SELECT c.id, o.id AS oid FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.amount > 90 ORDER BY 1, 2
SELECT c.id, count(o.id) AS n FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY 1
SELECT c.id, o.id AS oid FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status = 'paid' ORDER BY 1, 2
SELECT c.id, o.id AS oid FROM customers c RIGHT JOIN orders o ON o.customer_id = c.id ORDER BY o.id
SELECT c.id, o.id AS oid FROM customers c FULL JOIN orders o ON o.customer_id = c.id ORDER BY c.id, o.id
SELECT a.id, b.id AS bid FROM employees a CROSS JOIN employees b WHERE a.id < b.id ORDER BY 1, 2 LIMIT 10
SELECT a.id, b.name FROM employees a, employees b WHERE a.manager_id = b.id ORDER BY 1
SELECT * FROM (SELECT id, status FROM orders) a JOIN (SELECT id, amount FROM orders) b USING (id) ORDER BY id LIMIT 4
SELECT * FROM (SELECT id, status FROM orders) a NATURAL JOIN (SELECT id, amount FROM orders) b ORDER BY id LIMIT 4
SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.amount > 90) ORDER BY id
SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders) ORDER BY id
SELECT id FROM customers WHERE id IN (1, 2, 5) ORDER BY id
SELECT id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) AS n FROM customers c ORDER BY n DESC, id LIMIT 5
WITH paid AS (SELECT * FROM orders WHERE status = 'paid') SELECT count(*) AS n, sum(amount) AS t FROM paid
WITH a AS MATERIALIZED (SELECT id FROM orders), b AS NOT MATERIALIZED (SELECT id FROM a WHERE id > 2) SELECT count(*) AS n FROM a JOIN b USING (id)
WITH t(x, y) AS (SELECT id, status FROM orders) SELECT x FROM t WHERE y = 'paid' ORDER BY x LIMIT 3
WITH customers AS (SELECT 1 AS id) SELECT * FROM customers
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) AS s FROM n
WITH RECURSIVE chain(id, depth) AS (SELECT id, 1 FROM employees WHERE manager_id IS NULL UNION ALL SELECT e.id, c.depth + 1 FROM employees e JOIN chain c ON e.manager_id = c.id) SELECT depth, count(*) AS n FROM chain GROUP BY depth ORDER BY depth
SELECT id FROM orders WHERE status = 'paid' UNION SELECT id FROM customers ORDER BY id LIMIT 20
SELECT id FROM orders UNION ALL SELECT id FROM customers ORDER BY 1 LIMIT 7
SELECT id FROM orders INTERSECT SELECT id FROM customers ORDER BY 1
SELECT id FROM customers EXCEPT SELECT customer_id FROM orders ORDER BY 1
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'x'), (2, 'y')) AS v WHERE column1 > 1
SELECT j.key, j.value FROM json_each('{"a": 1, "b": 2}') AS j ORDER BY 1
SELECT o.id, json_extract(j.value, '$.sku') AS sku FROM orders o, json_each(o.lines) j WHERE o.id < 5 ORDER BY 1
SELECT json_extract(profile, '$.city') AS a, profile ->> '$.age' AS b, profile -> 'city' AS c FROM customers ORDER BY id LIMIT 3
SELECT json_group_array(id) AS a, json_group_object(status, id) AS b FROM (SELECT id, status FROM orders ORDER BY id LIMIT 3)
SELECT json_object('a', 1, 'b', json_array(1, 2)) AS a, json_type('[1]') AS b, json_valid('x') AS c, json_array_length('[1,2]') AS d
SELECT name LIKE 'P%' AS a, name NOT LIKE '%1%' AS b, name GLOB 'P*' AS c, name LIKE 'a!%' ESCAPE '!' AS d FROM products ORDER BY id LIMIT 3
SELECT substr(name, 2, 3) AS a, upper(name) AS b, lower(name) AS c, trim(' x ') AS d, replace(name, 'P', 'Q') AS e, instr(name, 'o') AS f, length(name) AS g, hex(name) AS h FROM products ORDER BY id LIMIT 3
SELECT 'a' || 'b' || 1 AS a, printf('%05.2f', 3.14159) AS b, format('%d', 5) AS c, char(65, 66) AS d, unicode('A') AS e, quote('it''s') AS f
SELECT abs(-5) AS a, round(1.555, 2) AS b, 7 % 3 AS c, 7 / 2 AS d, 7 / 2.0 AS e, 5 & 3 AS f, 5 | 3 AS g, ~5 AS h, 1 << 4 AS i, max(1, 2) AS j, min(3, 4) AS k, sign(-2) AS l
SELECT -amount AS a, +amount AS b, - -3 AS c, 1 - (2 - 3) AS d, 2 * (3 + 4) AS e FROM (SELECT 1 AS amount)
SELECT CASE status WHEN 'paid' THEN 1 ELSE 2 END AS a, CASE WHEN amount > 50 THEN 'big' END AS b, iif(amount > 5, 'a', 'b') AS c, coalesce(note, 'x') AS d, nullif(status, 'paid') AS e, ifnull(note, '-') AS f FROM orders ORDER BY id LIMIT 5
SELECT CAST(amount AS INTEGER) AS a, CAST(id AS TEXT) AS b, CAST('12' AS REAL) AS c, typeof(amount) AS d, CAST('1' AS NUMERIC) AS e FROM orders ORDER BY id LIMIT 3
SELECT 5 BETWEEN 1 AND 10 AS a, 5 NOT BETWEEN 6 AND 10 AS b, 1 IN (1, 2) AS c, 3 NOT IN (1, 2) AS d, NULL IS NULL AS e, note IS NOT NULL AS f, note NOTNULL AS g, 1 IS 1 AS h, 1 IS NOT 2 AS i, 1 <> 2 AS j, 1 != 2 AS k, 1 == 1 AS l FROM orders ORDER BY id LIMIT 1
SELECT (1, 2) < (1, 3) AS a, (1, 2) = (1, 2) AS b, (1, 2) IN (SELECT 1, 2) AS c
SELECT NOT 1 AND 0 OR 1 AS a, NOT (1 AND 0) AS b, 1 < 2 = 1 AS c, NOT 0 AS d
SELECT current_date IS NOT NULL AS a, current_timestamp IS NOT NULL AS b, random() IS NOT NULL AS c
SELECT id FROM products ORDER BY name COLLATE NOCASE DESC, id LIMIT 3
SELECT id FROM products ORDER BY price DESC NULLS LAST LIMIT 3
SELECT id AS x FROM products ORDER BY x DESC LIMIT 3
SELECT lower(category) AS c FROM products GROUP BY lower(category) ORDER BY c
SELECT products.name FROM main.products ORDER BY products.id LIMIT 2
SELECT NAME FROM Products ORDER BY ID LIMIT 2
SELECT "name", [id], `price` FROM products ORDER BY "id" LIMIT 2
SELECT id AS "select", name AS "a b" FROM products ORDER BY "select" LIMIT 2
SELECT * FROM order_totals ORDER BY 1, 2 LIMIT 5
SELECT id, name FROM customers ORDER BY id LIMIT 5
SELECT name, count(*) AS n FROM customers GROUP BY name ORDER BY 2 DESC, 1
SELECT id FROM customers WHERE name = 'N' ORDER BY id
SELECT id FROM customers WHERE 1 = 1 OR tenant = 'umbra' ORDER BY id
SELECT id FROM customers c WHERE c.country = 'de' OR c.country = 'fr' ORDER BY id
SELECT count(*) AS n FROM customers a JOIN customers b ON a.country = b.country
SELECT x.c FROM (SELECT country AS c, tenant FROM customers) x WHERE x.tenant <> 'acme'
SELECT tenant, (SELECT count(*) FROM orders o WHERE o.tenant = c.tenant) AS n FROM customers c GROUP BY tenant
SELECT c.id, c.country, count(o.id) AS n FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY n DESC, c.id LIMIT 7
SELECT dept, count(*) AS n FROM employees GROUP BY dept ORDER BY dept
SELECT e.name, m.name AS boss FROM employees e LEFT JOIN employees m ON m.id = e.manager_id ORDER BY e.id
SELECT * FROM (SELECT status, row_number() OVER (PARTITION BY status ORDER BY id) AS rn, id FROM orders) x WHERE rn <= 2 ORDER BY status, rn
SELECT id FROM products WHERE id = ?
SELECT id FROM products WHERE id = :key
SELECT id /* comment */ FROM products -- end
SELECT id FROM products WHERE id = 1;
SELECT max(id) AS m FROM customers UNION ALL SELECT max(id) FROM orders
SELECT a.n FROM (SELECT b.n FROM (SELECT count(*) AS n FROM orders) b) a
SELECT exists(SELECT 1 FROM orders WHERE amount > 1000) AS any_big
SELECT sum(amount) / nullif(count(*), 0) AS m FROM orders WHERE status = 'none'
SELECT '/*+ x */' AS a, 'U&''y' AS b, '-- z' AS c
SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) > 1 ORDER BY 2 DESC, 1
SELECT strftime('%Y-%m', placed) AS m, sum(amount) FROM orders GROUP BY m ORDER BY m
SELECT date(placed, '+1 month'), julianday('2024-01-02') - julianday('2024-01-01'), datetime('2024-01-01', 'start of year'), time('12:00'), unixepoch('2024-01-01'), strftime('%w', placed) FROM orders ORDER BY id LIMIT 2
SELECT id, row_number() OVER (PARTITION BY status ORDER BY amount DESC, id), rank() OVER w, dense_rank() OVER w, ntile(4) OVER w, percent_rank() OVER w, cume_dist() OVER w FROM orders WINDOW w AS (ORDER BY amount, id) ORDER BY id LIMIT 5
SELECT id, lag(amount) OVER w, lead(amount, 1, 0) OVER w, first_value(id) OVER w, last_value(id) OVER w, nth_value(id, 2) OVER w FROM orders WINDOW w AS (PARTITION BY status ORDER BY id) ORDER BY id LIMIT 5
SELECT id, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW), avg(amount) OVER (ORDER BY id GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM orders ORDER BY id LIMIT 5
WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT group_concat(x) FROM n
WITH RECURSIVE fib(a, b) AS (SELECT 0, 1 UNION ALL SELECT b, a + b FROM fib LIMIT 10) SELECT a FROM fib
WITH a AS MATERIALIZED (SELECT status, count(*) AS n FROM orders GROUP BY 1) SELECT * FROM a ORDER BY 1
SELECT json_extract('{"a": [1, 2]}', '$.a[1]'), json_array_length('[1, 2]'), '{"a": 1}' ->> '$.a', '{"a": 1}' -> 'a', json_object('k', 1), json_array(1, 'a'), json_type('[1]'), json_valid('x'), json_patch('{"a": 1}', '{"b": 2}'), json_set('{}', '$.a', 1), json_remove('{"a": 1}', '$.a')
SELECT json_group_array(status), json_group_object(id, status) FROM (SELECT id, status FROM orders ORDER BY id LIMIT 3)
SELECT e.key, e.value, e.type FROM json_each('{"a": 1, "b": [2]}') AS e
SELECT value FROM json_each('[1, 2, 3]') WHERE value > 1
SELECT fullkey, atom FROM json_tree('{"a": [1, 2]}') WHERE atom IS NOT NULL
SELECT o.id, j.value FROM orders o, json_each('[1,2]') j ORDER BY 1, 2 LIMIT 4
SELECT upper(status), lower(status), length(status), substr(status, 1, 2), instr(status, 'a'), replace(status, 'a', 'b'), trim('  x '), ltrim('xx', 'x'), rtrim('xx', 'x'), printf('%05.1f', 2.25), format('%d', 3), char(65), unicode('A'), hex('a'), quote('a') FROM orders ORDER BY id LIMIT 2
SELECT abs(-1), round(2.345, 2), max(1, 2), min(1, 2), sign(-2), random() IS NOT NULL, coalesce(NULL, 1), ifnull(NULL, 2), nullif(1, 1), iif(1 > 0, 'a', 'b'), typeof(1.5), likely(1), total(amount), likelihood(1, 0.5) FROM orders
SELECT sqrt(4), power(2, 3), exp(1), ln(10), log10(100), log2(8), mod(7, 3), ceil(1.2), floor(1.8), trunc(1.9), pi(), sin(1), cos(1), atan2(1, 2), degrees(3.14), radians(180)
SELECT group_concat(status, '; '), count(DISTINCT status), sum(amount), avg(amount), min(placed), max(placed), total(amount) FROM orders
SELECT count(*) FILTER (WHERE amount > 50) FROM orders
SELECT CASE WHEN amount > 50 THEN 'hi' WHEN amount > 10 THEN 'mid' ELSE 'lo' END AS band, count(*) FROM orders GROUP BY band ORDER BY band
SELECT o.id, c.country FROM orders o LEFT JOIN customers c ON c.id = o.customer_id ORDER BY o.id LIMIT 3
SELECT o.id, c.country FROM orders o RIGHT JOIN customers c ON c.id = o.customer_id ORDER BY c.id, o.id LIMIT 3
SELECT a.id FROM orders a FULL OUTER JOIN orders b ON a.id = b.id + 1 ORDER BY a.id LIMIT 3
SELECT a.id AS x, b.id AS y FROM orders a CROSS JOIN orders b ORDER BY 1, 2 LIMIT 3
SELECT id FROM orders JOIN (SELECT customer_id AS id FROM orders) USING (id) ORDER BY 1 LIMIT 2
SELECT id FROM orders NATURAL JOIN (SELECT 1 AS id)
SELECT id FROM orders WHERE status IN ('paid', 'void') AND amount BETWEEN 1 AND 100 AND note IS NOT NULL ORDER BY id
SELECT id FROM orders WHERE status LIKE 'p%' OR status GLOB 'v*' OR status NOT LIKE '%x' ESCAPE '\' ORDER BY id LIMIT 3
SELECT id FROM orders WHERE (customer_id, status) IN (SELECT customer_id, status FROM orders WHERE amount > 50) ORDER BY id
SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM orders i WHERE i.customer_id = o.customer_id AND i.id <> o.id) ORDER BY id LIMIT 3
SELECT id FROM orders WHERE amount = (SELECT max(amount) FROM orders) ORDER BY id
SELECT id FROM orders WHERE amount IS NOT DISTINCT FROM NULL OR note IS NULL ORDER BY id LIMIT 3
SELECT id FROM orders UNION SELECT id FROM products ORDER BY 1 LIMIT 3
SELECT id FROM orders EXCEPT SELECT 1 ORDER BY 1 LIMIT 3
SELECT id FROM orders INTERSECT SELECT customer_id FROM orders ORDER BY 1
SELECT column1, column2 FROM (VALUES (1, 'a'), (2, 'b'))
SELECT x.column1 FROM (VALUES (1)) AS x
SELECT DISTINCT status FROM orders ORDER BY status COLLATE NOCASE DESC
SELECT id FROM orders ORDER BY amount DESC NULLS LAST, id LIMIT 3 OFFSET 1
SELECT id FROM orders ORDER BY id LIMIT 2, 3
SELECT CAST('12' AS INTEGER), CAST(1.5 AS TEXT), CAST('1' AS REAL), x'00FF', 0x10, 1e3, .5
SELECT 7 / 2, 7 % 2, 7 & 3, 7 | 8, ~1, 1 << 3, 'a' || 'b', 1 = 1, 1 <> 2, 1 == 1, 1 != 2, NOT 1, 1 AND 0, 1 IS 1, 1 IS NOT 2
SELECT [id], "status", `amount` FROM [orders] ORDER BY id LIMIT 1
SELECT id AS "order id", status AS [the status] FROM orders ORDER BY "order id" LIMIT 1
SELECT id FROM orders WHERE placed >= date('2024-01-01') AND placed < date('2024-01-01', '+1 year') ORDER BY id LIMIT 3
SELECT customer_id, placed, amount, sum(amount) OVER (PARTITION BY customer_id ORDER BY placed, id RANGE UNBOUNDED PRECEDING) FROM orders ORDER BY 1, 2, 3 LIMIT 5
SELECT strftime('%Y', placed) AS y, SUM(CASE WHEN status = 'paid' THEN amount ELSE 0 END) AS paid FROM orders GROUP BY 1 ORDER BY 1
SELECT name, price, price - avg(price) OVER (PARTITION BY category) FROM products ORDER BY id LIMIT 3
SELECT max(amount), id FROM orders
SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders)
SELECT * FROM (SELECT status, count(*) AS n FROM orders GROUP BY status) t WHERE n > 1 ORDER BY n, status
SELECT EXISTS (SELECT 1 FROM orders WHERE amount > 1000)
SELECT count(*), count(note), count(DISTINCT customer_id) FROM orders WHERE status <> 'void'
SELECT substr(placed, 1, 7) AS month, round(avg(amount), 2) FROM orders GROUP BY month ORDER BY month;
