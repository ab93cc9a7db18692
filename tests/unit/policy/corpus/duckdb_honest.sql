SELECT 1 AS a, 'x' AS b, NULL AS c, true AS d, 1.5 AS e
SELECT * FROM products ORDER BY id
FROM products ORDER BY id LIMIT 3
FROM products SELECT name ORDER BY name LIMIT 3
SELECT p.* FROM products p ORDER BY p.id DESC LIMIT 5
SELECT * EXCLUDE (price) FROM products ORDER BY id LIMIT 3
SELECT * REPLACE (upper(name) AS name) FROM products ORDER BY id LIMIT 3
SELECT COLUMNS('n.*') FROM products ORDER BY id LIMIT 3
SELECT min(COLUMNS(*)) FROM products
SELECT id, amount FROM orders WHERE status = 'paid' ORDER BY id OFFSET 3
SELECT id FROM orders ORDER BY id LIMIT 10 OFFSET 5
SELECT id FROM orders ORDER BY id LIMIT 10%
SELECT id FROM orders ORDER BY id LIMIT 2 + 3
SELECT count(*), count(amount), count(DISTINCT status), sum(amount), min(placed) FROM orders
SELECT status, count(*) FROM orders GROUP BY ALL ORDER BY ALL
SELECT status AS s, count(*) AS n FROM orders GROUP BY s HAVING n > 10 ORDER BY n DESC, s
SELECT amount * 2 AS twice, twice + 1 AS more FROM orders WHERE twice > 180 ORDER BY id
SELECT year(placed) AS y, month(placed) AS m, sum(amount) FROM orders GROUP BY 1, 2 ORDER BY 1, 2
SELECT date_trunc('month', placed) AS m, count(*) FROM orders GROUP BY m ORDER BY m
SELECT extract(dow FROM placed), date_part('week', placed) FROM orders ORDER BY id LIMIT 3
SELECT placed + INTERVAL 1 DAY, placed - DATE '2024-01-01', strftime(placed, '%Y/%m') FROM orders ORDER BY id LIMIT 3
SELECT time_bucket(INTERVAL '15 days', placed) AS b, count(*) FROM orders GROUP BY b ORDER BY b
SELECT id, row_number() OVER (PARTITION BY status ORDER BY id) AS r FROM orders QUALIFY r = 1 ORDER BY id
SELECT id, lag(amount) OVER w, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 10
SELECT status, rank() OVER (ORDER BY count(*) DESC) FROM orders GROUP BY status ORDER BY 1
SELECT median(amount), quantile_cont(amount, 0.9), mode(length(tenant)), stddev(amount) FROM orders
SELECT arg_max(id, amount), max_by(status, id), first(status ORDER BY id) FROM orders
SELECT string_agg(status, ',' ORDER BY id) FROM (SELECT id, status FROM orders ORDER BY id LIMIT 5)
SELECT list(id ORDER BY id) FILTER (WHERE amount > 95) FROM orders
SELECT status, count(*) FROM orders GROUP BY GROUPING SETS ((status), ()) ORDER BY 1 NULLS LAST
SELECT status, year(placed) AS y, sum(amount) FROM orders GROUP BY ROLLUP (status, y) ORDER BY ALL
SELECT status, customer_id % 2 AS c, count(*) FROM orders GROUP BY CUBE (status, c) ORDER BY ALL
SELECT DISTINCT status FROM orders ORDER BY status
SELECT DISTINCT ON (status) status, id FROM orders ORDER BY status, id
SELECT c.id, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.amount > 90 ORDER BY ALL
SELECT c.id, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY 1
SELECT c.id AS c, o.id AS o FROM customers c FULL JOIN orders o ON o.customer_id = c.id ORDER BY c NULLS FIRST, o NULLS FIRST
SELECT id FROM customers c SEMI JOIN orders o ON o.customer_id = c.id ORDER BY id
SELECT id FROM customers c ANTI JOIN orders o ON o.customer_id = c.id ORDER BY id
SELECT a.id, b.id FROM employees a POSITIONAL JOIN products b ORDER BY a.id
SELECT o.id, p.price FROM orders o ASOF JOIN (SELECT price, id FROM products) p ON o.amount >= p.price ORDER BY o.id LIMIT 5
SELECT * FROM (SELECT id, status FROM orders) a JOIN (SELECT id, amount FROM orders) b USING (id) ORDER BY id LIMIT 4
SELECT * FROM (SELECT id, status FROM orders) a NATURAL JOIN (SELECT id, amount FROM orders) b ORDER BY id LIMIT 4
SELECT c.id, t.last FROM customers c, LATERAL (SELECT max(placed) AS last FROM orders o WHERE o.customer_id = c.id) t ORDER BY 1
SELECT c.id, t.n FROM customers c, (SELECT count(*) AS n FROM orders o WHERE o.customer_id = c.id) t ORDER BY 1
SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.amount > 90) ORDER BY id
SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders) ORDER BY id
SELECT id FROM orders WHERE amount > ALL (SELECT avg(amount) FROM orders GROUP BY status) ORDER BY id
SELECT id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) AS n FROM customers c ORDER BY n DESC, id LIMIT 5
WITH paid AS (SELECT * FROM orders WHERE status = 'paid') SELECT count(*), sum(amount) FROM paid
WITH a AS MATERIALIZED (SELECT id FROM orders), b AS (SELECT id FROM a WHERE id > 2) SELECT count(*) FROM a JOIN b USING (id)
WITH orders AS (SELECT 1 AS id) SELECT * FROM orders
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n
WITH RECURSIVE chain AS (SELECT id, manager_id, 1 AS depth FROM employees WHERE manager_id IS NULL UNION ALL SELECT e.id, e.manager_id, c.depth + 1 FROM employees e JOIN chain c ON e.manager_id = c.id) SELECT depth, count(*) FROM chain GROUP BY depth ORDER BY depth
SELECT id FROM orders WHERE status = 'paid' UNION SELECT id FROM customers ORDER BY id LIMIT 20
SELECT id FROM orders INTERSECT SELECT id FROM customers ORDER BY 1
SELECT id AS a FROM customers EXCEPT SELECT customer_id FROM orders ORDER BY a
SELECT 1 AS a UNION ALL BY NAME SELECT 2 AS b ORDER BY ALL
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'x'), (2, 'y')) v(n, s) WHERE n > 1
TABLE products
SELECT * FROM range(5)
SELECT i FROM range(3) r(i)
SELECT * FROM generate_series(1, 5, 2) g(x)
SELECT unnest([1, 2, 3]) AS x
SELECT x FROM unnest(['a', 'b']) u(x)
SELECT c.id, t.x FROM customers c, unnest(c.tags) t(x) WHERE c.id < 4 ORDER BY ALL
SELECT profile.city, profile['age'], struct_extract(profile, 'city') FROM customers ORDER BY id LIMIT 3
SELECT tags[1], tags[1:2], len(tags), list_contains(tags, 'all') FROM customers ORDER BY id LIMIT 3
SELECT list_transform([1, 2, 3], lambda x: x * 2), list_filter([1, 2, 3], lambda x: x > 1), [x + 1 for x in [1, 2]]
SELECT {'a': 1, 'b': [1, 2]}, map {'k': 'v'}, [1, 2] || [3], struct_pack(x := 1)
SELECT lines -> 0 ->> 'sku', lines ->> '$[0].qty', json_extract_string(lines, '$[0].sku') FROM orders ORDER BY id LIMIT 3
SELECT j.key, j.value FROM json_each('{"a": 1}') j
SELECT name LIKE 'P%', name ILIKE 'p%', name SIMILAR TO 'P.*', regexp_matches(name, '1'), name GLOB 'P*' FROM products ORDER BY id LIMIT 3
SELECT regexp_replace(name, '\d', 'x', 'g'), regexp_extract(name, '\d+'), substring(name, 2, 3), upper(name), trim(' x '), replace(name, 'P', 'Q') FROM products ORDER BY id LIMIT 3
SELECT concat('a', 1), 'a' || 'b', format('{}', 1), printf('%d', 5), lpad('5', 3, '0'), split_part('a.b', '.', 2), strlen('abc'), md5('x')
SELECT abs(-5), ceil(1.2), round(1.555, 2), 7 % 3, 7 // 2, 2 ** 3, sqrt(16), greatest(1, 2), least(3, 4), -5, 5 & 3
SELECT CASE status WHEN 'paid' THEN 1 ELSE 2 END, if(amount > 5, 'a', 'b'), coalesce(note, 'x'), nullif(status, 'paid'), ifnull(note, '-') FROM orders ORDER BY id LIMIT 4
SELECT amount::VARCHAR, CAST(amount AS INTEGER), TRY_CAST(note AS INTEGER), '2024-01-01'::DATE, 1::DECIMAL(5, 1), [1]::BIGINT[] FROM orders ORDER BY id LIMIT 3
SELECT 5 BETWEEN 1 AND 10, 1 IN (1, 2), 3 NOT IN (1, 2), NULL IS DISTINCT FROM 1, note IS NULL, NOT true FROM orders ORDER BY id LIMIT 1
SELECT (1, 2) < (1, 3), row(1, 2) = (1, 2)
SELECT current_date = today(), now() IS NOT NULL
SELECT x.n FROM (SELECT id, name FROM products) x(k, n) ORDER BY x.k LIMIT 2
SELECT p.k FROM products p(k) ORDER BY k LIMIT 2
SELECT products.name FROM main.products ORDER BY products.id LIMIT 2
SELECT NAME FROM Products ORDER BY ID LIMIT 2
SELECT * FROM products PIVOT (count(*) FOR category IN ('cat1', 'cat2')) ORDER BY ALL LIMIT 3
SELECT count(*) FROM products USING SAMPLE 100 PERCENT (bernoulli)
SELECT count(*) FROM products TABLESAMPLE reservoir(10 ROWS)
SELECT o FROM (SELECT 1 AS a) o
SELECT * FROM order_totals ORDER BY ALL LIMIT 4
SELECT id, name FROM customers ORDER BY id LIMIT 5
SELECT name, count(*) FROM customers GROUP BY name ORDER BY 2 DESC, 1
SELECT id FROM customers WHERE 1 = 1 OR tenant = 'umbra' ORDER BY id
SELECT * EXCLUDE (email) FROM customers ORDER BY id LIMIT 3
SELECT c.id, c.country, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status = 'paid' ORDER BY ALL
SELECT $1::INTEGER + 1
SELECT id /* comment */ FROM products -- end
SELECT x.a FROM (FROM (VALUES (1)) t(a)) x
SELECT dept, count(*) FROM employees GROUP BY dept ORDER BY dept
SELECT [x * 2 for x in [1, 2, 3] if x > 1] AS doubled
SELECT '/*+ x */' AS a, 'U&''y' AS b, struct_pack(a := 1) AS c
