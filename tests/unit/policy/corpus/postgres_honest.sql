SELECT 1
SELECT 1 AS one, 'two' AS two, NULL AS three, true AS four, 1.5e3 AS five, -7 AS six
SELECT * FROM orders ORDER BY id
SELECT o.* FROM orders o ORDER BY o.id DESC LIMIT 5
SELECT id, amount FROM orders WHERE status = 'paid' ORDER BY id OFFSET 3
SELECT id FROM orders ORDER BY id LIMIT 10 OFFSET 5
SELECT id FROM orders ORDER BY id FETCH FIRST 7 ROWS ONLY
SELECT id, amount FROM orders ORDER BY amount NULLS LAST, id FETCH FIRST 7 ROWS WITH TIES
SELECT id FROM orders ORDER BY id LIMIT ALL
SELECT id FROM orders ORDER BY id LIMIT NULL
SELECT id FROM orders ORDER BY id LIMIT 2 + 3
SELECT id FROM orders ORDER BY id LIMIT (SELECT 4)
SELECT count(*) FROM orders
SELECT count(*), count(amount), count(DISTINCT status), sum(amount), avg(amount), min(placed), max(placed) FROM orders
SELECT status, count(*) FROM orders GROUP BY status ORDER BY 1
SELECT status AS s, count(*) AS n FROM orders GROUP BY s HAVING count(*) > 10 ORDER BY n DESC, s
SELECT extract(year FROM placed) AS y, extract(month FROM placed) AS m, sum(amount) FROM orders GROUP BY 1, 2 ORDER BY 1, 2
SELECT date_trunc('month', placed) AS m, count(*) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_part('dow', placed), count(*) FROM orders GROUP BY date_part('dow', placed) ORDER BY 1
SELECT date_bin('15 days', placed::timestamp, timestamp '2024-01-01') AS b, count(*) FROM orders GROUP BY b ORDER BY b
SELECT to_char(placed, 'YYYY-MM-DD HH24:MI:SS Day') FROM orders ORDER BY id LIMIT 5
SELECT to_date('05 Dec 2000', 'DD Mon YYYY'), to_timestamp('2000-12-05', 'YYYY-MM-DD'), to_number('12,454.8-', '99G999D9S')
SELECT age(timestamp '2024-05-01', timestamp '2023-01-15'), justify_hours(interval '27 hours'), make_interval(days => 10, hours => 3)
SELECT placed + 7, placed - 7, placed - date '2024-01-01', placed + interval '1 month' FROM orders ORDER BY id LIMIT 3
SELECT interval '1 day 2 hours' * 3, interval '1-2', interval '3' hour, interval '1.5' second(2)
SELECT timestamp '2024-01-01 12:00' AT TIME ZONE 'UTC', timestamptz '2024-01-01 12:00+02' AT TIME ZONE 'Europe/Berlin'
SELECT current_date = current_date, now() = transaction_timestamp(), localtime IS NOT NULL, current_timestamp(0) IS NOT NULL
SELECT (date '2024-01-01', date '2024-02-01') OVERLAPS (date '2024-01-15', date '2024-03-01')
SELECT id, row_number() OVER (ORDER BY id) FROM orders ORDER BY id LIMIT 5
SELECT id, status, rank() OVER (PARTITION BY status ORDER BY amount DESC NULLS LAST, id), dense_rank() OVER w FROM orders WINDOW w AS (PARTITION BY status ORDER BY placed) ORDER BY id LIMIT 20
SELECT id, lag(amount) OVER w, lead(amount, 2, 0) OVER w, first_value(id) OVER w, last_value(id) OVER (PARTITION BY status ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), nth_value(id, 2) OVER w FROM orders WINDOW w AS (PARTITION BY status ORDER BY id) ORDER BY id LIMIT 20
SELECT id, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW), avg(amount) OVER (ORDER BY placed RANGE BETWEEN '5 days' PRECEDING AND '5 days' FOLLOWING) FROM orders ORDER BY id LIMIT 20
SELECT id, sum(amount) OVER (ORDER BY status GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM orders ORDER BY id LIMIT 20
SELECT status, count(*) FILTER (WHERE amount > 50) AS big, sum(amount) FILTER (WHERE amount <= 50) OVER () FROM orders GROUP BY status, amount ORDER BY 1, 2, 3 LIMIT 9
SELECT ntile(4) OVER (ORDER BY amount, id), percent_rank() OVER (ORDER BY amount), cume_dist() OVER (ORDER BY amount) FROM orders ORDER BY id LIMIT 10
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY amount), percentile_disc(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY amount), mode() WITHIN GROUP (ORDER BY status) FROM orders
SELECT rank(50) WITHIN GROUP (ORDER BY amount) FROM orders
SELECT stddev(amount), stddev_pop(amount), variance(amount), var_samp(amount), corr(id, amount), regr_slope(amount, id) FROM orders
SELECT bool_and(amount > 0), bool_or(amount > 90), every(id > 0), bit_and(id), bit_or(id) FROM orders
SELECT string_agg(status, ',' ORDER BY id) FROM (SELECT id, status FROM orders ORDER BY id LIMIT 5) x
SELECT string_agg(DISTINCT status, '|' ORDER BY status DESC), array_agg(DISTINCT status ORDER BY status) FROM orders
SELECT array_agg(id ORDER BY id DESC) FILTER (WHERE amount > 95) FROM orders
SELECT json_agg(o ORDER BY o.id) FROM (SELECT id, status FROM orders ORDER BY id LIMIT 3) o
SELECT jsonb_object_agg(status, n ORDER BY status) FROM (SELECT status, count(*) n FROM orders GROUP BY status) x
SELECT status, grouping(status) AS g, count(*) FROM orders GROUP BY GROUPING SETS ((status), ()) ORDER BY 2, 1
SELECT status, extract(year FROM placed) AS y, sum(amount) FROM orders GROUP BY ROLLUP (status, y) ORDER BY 1 NULLS LAST, 2 NULLS LAST
SELECT status, country, count(*) FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY CUBE (status, country) ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3
SELECT status, count(*) FROM orders GROUP BY DISTINCT ROLLUP (status), ROLLUP (status) ORDER BY 1 NULLS LAST
SELECT DISTINCT status FROM orders ORDER BY status
SELECT DISTINCT ON (status) status, id, amount FROM orders ORDER BY status, amount DESC NULLS LAST, id
SELECT DISTINCT ON (o.status, extract(year FROM o.placed)) o.status, o.id FROM orders o ORDER BY o.status, extract(year FROM o.placed), o.id
SELECT c.id, c.country, o.id AS order_id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.amount > 90 ORDER BY 1, 3
SELECT c.id, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status = 'paid' GROUP BY c.id ORDER BY 1
SELECT c.id, o.id FROM customers c RIGHT JOIN orders o ON o.customer_id = c.id ORDER BY o.id, c.id
SELECT c.id, o.id FROM customers c FULL JOIN orders o ON o.customer_id = c.id ORDER BY c.id NULLS FIRST, o.id NULLS FIRST
SELECT c.id, o.id FROM customers c FULL OUTER JOIN orders o ON o.customer_id = c.id AND o.id < 5 WHERE c.id IS NULL OR o.id IS NULL ORDER BY 1, 2
SELECT a.id, b.id FROM employees a CROSS JOIN employees b WHERE a.id < b.id ORDER BY 1, 2 LIMIT 10
SELECT a.id, b.name FROM employees a, employees b WHERE a.manager_id = b.id ORDER BY 1
SELECT a.id, b.id AS manager, c.id AS top FROM employees a LEFT JOIN (employees b LEFT JOIN employees c ON b.manager_id = c.id) ON a.manager_id = b.id ORDER BY 1
SELECT tenant, count(*) FROM customers JOIN orders USING (tenant) GROUP BY tenant ORDER BY 1
SELECT * FROM (SELECT id, status FROM orders) a JOIN (SELECT id, amount FROM orders) b USING (id) ORDER BY id LIMIT 4
SELECT u.id, a.status FROM (SELECT id, status FROM orders) a JOIN (SELECT id, amount FROM orders) b USING (id) AS u ORDER BY u.id LIMIT 4
SELECT * FROM (SELECT id, status FROM orders) a NATURAL JOIN (SELECT id, amount FROM orders) b ORDER BY id LIMIT 4
SELECT j.id FROM (orders o JOIN (SELECT 1 AS k) k ON true) AS j ORDER BY j.id LIMIT 4
SELECT c.id, t.last FROM customers c, LATERAL (SELECT max(placed) AS last FROM orders o WHERE o.customer_id = c.id) t ORDER BY 1
SELECT c.id, o.id FROM customers c LEFT JOIN LATERAL (SELECT id FROM orders WHERE customer_id = c.id ORDER BY placed DESC, id LIMIT 2) o ON true ORDER BY 1, 2
SELECT c.id, x FROM customers c CROSS JOIN LATERAL unnest(c.tags) AS x ORDER BY 1, 2 LIMIT 10
SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.amount > 90) ORDER BY id
SELECT id FROM customers c WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id) ORDER BY id
SELECT id FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE status = 'paid') ORDER BY id
SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders WHERE customer_id IS NOT NULL) ORDER BY id
SELECT id FROM orders WHERE amount > ALL (SELECT avg(amount) FROM orders GROUP BY status) ORDER BY id
SELECT id FROM orders WHERE amount = ANY (SELECT max(amount) FROM orders GROUP BY status) ORDER BY id
SELECT id FROM orders WHERE id = ANY (ARRAY[1, 5, 9]) OR status = SOME (ARRAY['void']) ORDER BY id LIMIT 10
SELECT id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.id) AS n FROM customers c ORDER BY n DESC, id LIMIT 5
SELECT ARRAY(SELECT id FROM orders ORDER BY id LIMIT 3) AS ids, (SELECT max(id) FROM orders) AS top
SELECT id FROM orders o WHERE amount > (SELECT avg(amount) FROM orders i WHERE i.status = o.status) ORDER BY id LIMIT 10
SELECT (SELECT o.status FROM orders o WHERE o.id = c.id) FROM customers c ORDER BY c.id LIMIT 6
WITH paid AS (SELECT * FROM orders WHERE status = 'paid') SELECT count(*), sum(amount) FROM paid
WITH a AS (SELECT id FROM orders WHERE id < 5), b AS (SELECT id FROM a WHERE id > 2) SELECT * FROM b ORDER BY id
WITH a AS MATERIALIZED (SELECT id FROM orders), b AS NOT MATERIALIZED (SELECT id FROM a) SELECT count(*) FROM a JOIN b USING (id)
WITH t(x, y) AS (SELECT id, status FROM orders) SELECT x FROM t WHERE y = 'paid' ORDER BY x LIMIT 3
WITH orders AS (SELECT 1 AS id) SELECT * FROM orders
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n
WITH RECURSIVE chain AS (SELECT id, manager_id, 1 AS depth FROM employees WHERE manager_id IS NULL UNION ALL SELECT e.id, e.manager_id, c.depth + 1 FROM employees e JOIN chain c ON e.manager_id = c.id) SELECT depth, count(*) FROM chain GROUP BY depth ORDER BY depth
WITH RECURSIVE t(id, path) AS (SELECT id, ARRAY[id] FROM employees WHERE id = 1 UNION SELECT e.id, path || e.id FROM employees e, t WHERE e.manager_id = t.id) SELECT id, path FROM t ORDER BY path
WITH RECURSIVE t AS (SELECT id, manager_id FROM employees WHERE id = 1 UNION ALL SELECT e.id, e.manager_id FROM employees e JOIN t ON e.manager_id = t.id) SEARCH DEPTH FIRST BY id SET ord SELECT id, ord IS NOT NULL FROM t ORDER BY ord
WITH RECURSIVE t AS (SELECT id, manager_id FROM employees WHERE id = 1 UNION ALL SELECT e.id, e.manager_id FROM employees e JOIN t ON e.manager_id = t.id) CYCLE id SET is_cycle USING path SELECT id, is_cycle FROM t ORDER BY id
WITH RECURSIVE f(a, b) AS (VALUES (0, 1) UNION ALL SELECT b, a + b FROM f WHERE b < 100) SELECT a FROM f
SELECT * FROM (WITH x AS (SELECT 1 AS v) SELECT * FROM x) y
SELECT id FROM orders WHERE status = 'paid' UNION SELECT id FROM customers ORDER BY id LIMIT 20
SELECT status FROM orders UNION ALL SELECT country FROM customers ORDER BY 1 NULLS FIRST LIMIT 30
SELECT id FROM orders INTERSECT SELECT id FROM customers ORDER BY 1
SELECT id FROM customers EXCEPT SELECT customer_id FROM orders ORDER BY 1
(SELECT id FROM orders ORDER BY id LIMIT 2) UNION ALL (SELECT id FROM orders ORDER BY id DESC LIMIT 2) ORDER BY id
SELECT 1 AS a UNION (SELECT 2 EXCEPT SELECT 3) UNION ALL SELECT 4 ORDER BY a DESC
(SELECT id AS x FROM orders) INTERSECT ALL (SELECT id FROM customers) ORDER BY x OFFSET 2 LIMIT 3
VALUES (1, 'a'), (2, 'b'), (3, NULL)
VALUES (3), (1), (2) ORDER BY 1 DESC LIMIT 2
VALUES (3), (1) ORDER BY column1
SELECT * FROM (VALUES (1, 'x'), (2, 'y')) AS v(n, s) WHERE n > 1
SELECT v.column1 FROM (VALUES (1), (2)) v ORDER BY column1
TABLE products
TABLE orders ORDER BY id LIMIT 3
SELECT * FROM generate_series(1, 5)
SELECT g FROM generate_series(1, 10, 3) g
SELECT g.g, i FROM generate_series(1, 2) g, generate_series(g.g, 3) AS i ORDER BY 1, 2
SELECT d::date FROM generate_series(timestamp '2024-01-01', timestamp '2024-01-05', interval '1 day') AS d
SELECT generate_series(1, 3), generate_series(1, 2)
SELECT i, x FROM unnest(ARRAY['a', 'b']) WITH ORDINALITY AS t(x, i)
SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b', 'c']) AS t(n, s)
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['x', 'y'])) WITH ORDINALITY AS r(a, b, c)
SELECT unnest(tags), count(*) FROM customers GROUP BY 1 ORDER BY 1
SELECT s FROM generate_subscripts(ARRAY[5, 6, 7], 1) AS s
SELECT k FROM jsonb_object_keys('{"a": 1, "b": 2}') AS k ORDER BY k
SELECT q FROM websearch_to_tsquery('english', 'quick fox') AS q
SELECT p.id, ts_rank(to_tsvector('english', p.body), q) FROM products p, websearch_to_tsquery('english', 'quick 7') AS q WHERE to_tsvector('english', p.body) @@ q ORDER BY 1
SELECT id FROM products WHERE to_tsvector('simple', body) @@ to_tsquery('simple', 'fox & jumps & 3') ORDER BY id
SELECT ts_headline('english', body, plainto_tsquery('english', 'fox')) FROM products ORDER BY id LIMIT 2
SELECT to_tsvector('english'::regconfig, 'The Fat Rats') @@ phraseto_tsquery('fat rats'), setweight(to_tsvector('a b'), 'A')
SELECT profile -> 'city' ->> 'name', profile #>> '{city,name}', profile -> 'age' FROM customers ORDER BY id LIMIT 3
SELECT id FROM customers WHERE profile @> '{"city": {"name": "C1"}}' ORDER BY id
SELECT id FROM customers WHERE profile ? 'age' AND profile ?| ARRAY['x', 'city'] AND profile ?& ARRAY['age', 'city'] ORDER BY id LIMIT 3
SELECT id FROM customers WHERE (profile ->> 'age')::int BETWEEN 10 AND 20 ORDER BY id
SELECT e.key, e.value FROM customers c, jsonb_each(c.profile) AS e WHERE c.id = 1 ORDER BY 1
SELECT key, value FROM jsonb_each_text('{"a": 1}')
SELECT (jsonb_each('{"a": 1, "b": [2]}')).*
SELECT (jsonb_each_text(profile)).key FROM customers WHERE id = 2 ORDER BY 1
SELECT x ->> 'sku', (x ->> 'qty')::int FROM orders, jsonb_array_elements(lines) AS x WHERE id < 4 ORDER BY id, 1
SELECT l.sku, sum(l.qty) FROM orders o CROSS JOIN LATERAL jsonb_to_recordset(o.lines) AS l(sku text, qty int) GROUP BY l.sku ORDER BY 1
SELECT * FROM jsonb_to_record('{"a": 1, "b": "x"}') AS r(a int, b text)
SELECT * FROM json_to_recordset('[{"a": 1}, {"a": 2}]') AS (a int)
SELECT jsonb_path_query(lines, '$[*] ? (@.qty > 3).sku') FROM orders WHERE id < 20 ORDER BY id
SELECT id FROM orders WHERE lines @? '$[*] ? (@.qty == 4)' AND lines @@ '$[0].qty > 2' ORDER BY id LIMIT 5
SELECT jsonb_set(profile, '{age}', '1') - 'city' || '{"z": 1}'::jsonb, profile #- '{city,name}' FROM customers ORDER BY id LIMIT 2
SELECT row_to_json(o) FROM (SELECT id, status FROM orders ORDER BY id LIMIT 2) o
SELECT to_jsonb(o) - 'note' FROM orders o ORDER BY id LIMIT 2
SELECT json_build_object('id', id, 'lines', lines), jsonb_build_array(1, 'a', null) FROM orders ORDER BY id LIMIT 2
SELECT jsonb_pretty(profile), jsonb_typeof(profile -> 'age'), jsonb_array_length(lines) FROM customers c JOIN orders o ON o.id = c.id ORDER BY c.id LIMIT 2
SELECT attrs ->> 'w', attrs -> 'l' -> 1, json_array_length(attrs -> 'l'), json_typeof(attrs) FROM products ORDER BY id LIMIT 2
SELECT profile['city']['name'] FROM customers ORDER BY id LIMIT 2
SELECT tags[1], tags[1:2], array_length(tags, 1), cardinality(tags), 'all' = ANY (tags) FROM customers ORDER BY id LIMIT 2
SELECT id FROM customers WHERE tags @> ARRAY['t1'] AND tags && ARRAY['all'] AND NOT tags <@ ARRAY['x'] ORDER BY id LIMIT 4
SELECT ARRAY[1, 2] || 3, (ARRAY[[1, 2], [3, 4]])[2][1], array_append(ARRAY[1], 2), array_remove(ARRAY[1, 2, 1], 1), array_position(ARRAY['a', 'b'], 'b'), array_to_string(ARRAY[1, 2], '-')
SELECT '{1,2,3}'::int[], ARRAY[]::text[], string_to_array('a,b', ','), array_fill(0, ARRAY[2, 2])
SELECT id FROM events WHERE during @> timestamptz '2024-03-02 03:00+00' ORDER BY id
SELECT lower(during), upper(during), isempty(during), during * tstzrange('2024-03-01', '2024-03-03') FROM events ORDER BY id LIMIT 3
SELECT int4range(1, 10) @> 5, int4range(1, 5) && int4range(4, 8), numrange(1, 2) -|- numrange(2, 3), '[1,3)'::int4range + '[3,5)'::int4range
SELECT range_agg(during) FROM events WHERE id < 10
SELECT name LIKE 'P%', name NOT LIKE '%1%', name ILIKE 'product%', name ~ '^P.*\d$', name !~* 'x', name SIMILAR TO '%(1|2)%' FROM products ORDER BY id LIMIT 4
SELECT 'a_b' LIKE 'a\_b', 'a%b' LIKE 'a#%b' ESCAPE '#', 'abc' ~~ 'a%', 'ABC' ~~* 'a%', 'x' !~~ 'y'
SELECT regexp_replace(name, '(\d+)', '<\1>', 'g'), regexp_matches(name, '\d'), substring(name FROM '\d+') FROM products ORDER BY id LIMIT 4
SELECT regexp_split_to_table('a b c', '\s'), regexp_split_to_array('a,b', ','), string_to_table('x-y', '-')
SELECT substring(name FROM 2 FOR 3), substring(name, 2, 3), substr(name, 3), overlay(name PLACING 'XX' FROM 2 FOR 1), position('u' IN name), strpos(name, 'o') FROM products ORDER BY id LIMIT 3
SELECT trim('  x '), trim(BOTH 'x' FROM 'xxaxx'), trim(LEADING FROM ' y'), ltrim('zzy', 'z'), rtrim('yzz', 'z'), btrim('aba', 'a')
SELECT upper(name), lower(name), initcap('hi there'), length(name), char_length(name), octet_length(name), reverse(name), repeat('x', 3), lpad('5', 3, '0'), rpad('5', 3) FROM products ORDER BY id LIMIT 2
SELECT concat('a', 1, NULL), concat_ws('-', 'a', NULL, 'b'), 'a' || 'b' || 1, format('%s=%I %L', 'k', 'Col', 'v'), left('abc', 2), right('abc', 2), split_part('a.b.c', '.', 2), translate('12', '1', 'a'), md5('x'), encode(sha256('x'), 'hex'), ascii('A'), chr(66), quote_literal('it''s'), quote_ident('a b')
SELECT E'tab\there\\', 'it''s', $$dollar 'quoted'$$, $tag$with $$ inside$tag$, 'back\slash', B'101', X'1FF'
SELECT 'uni ü ☃', length('☃'), '😀' || 'x', "é" FROM (SELECT 1 AS "é") x
SELECT abs(-5), ceil(1.2), ceiling(1.2), floor(1.8), round(1.555, 2), round(2.5), trunc(1.999, 1), mod(7, 3), 7 % 3, power(2, 10), 2 ^ 3 ^ 2, sqrt(16), |/ 25, ||/ 27, exp(0), ln(1), log(100), log(2, 8), sign(-3), div(7, 2), gcd(12, 18), lcm(4, 6), pi(), degrees(0), width_bucket(5, 0, 10, 5), @ -5
SELECT -amount, +amount, - -3, -2 ^ 2, (-2) ^ 2, 1 - (2 - 3), 2 * (3 + 4), 7 / 2, 7 / 2.0 FROM (SELECT 1 AS amount) x
SELECT 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 4, 256 >> 2
SELECT NOT true AND false OR true, NOT (true AND false), true = (1 = 1), (1 < 2) = (2 < 3), 1 < 2 IS TRUE
SELECT 1 IS DISTINCT FROM NULL, NULL IS NOT DISTINCT FROM NULL, (1 = NULL) IS UNKNOWN, true IS NOT FALSE, note IS NULL, note NOTNULL, note ISNULL FROM orders ORDER BY id LIMIT 1
SELECT 5 BETWEEN 1 AND 10, 5 NOT BETWEEN 6 AND 10, 5 BETWEEN SYMMETRIC 10 AND 1, 1 IN (1, 2), 3 NOT IN (1, 2), 'a' IN ('b')
SELECT (1, 2) < (1, 3), ROW(1, 'a') = ROW(1, 'a'), (1, 2) IN ((1, 2), (3, 4)), ROW(1, NULL) IS NULL, (1, 2) = (SELECT 1, 2)
SELECT id FROM orders WHERE (placed, id) > (date '2024-06-01', 10) ORDER BY placed, id LIMIT 5
SELECT CASE status WHEN 'paid' THEN 1 WHEN 'open' THEN 2 ELSE 3 END, CASE WHEN amount > 50 THEN 'big' WHEN amount IS NULL THEN NULL END FROM orders ORDER BY id LIMIT 6
SELECT coalesce(note, status, 'x'), nullif(status, 'paid'), greatest(1, 2, NULL), least(id, 3) FROM orders ORDER BY id LIMIT 6
SELECT amount::text, amount::int, CAST(amount AS float8), id::bigint::text, '12'::numeric(5, 1), CAST('2024-01-01' AS timestamp(0) with time zone) IS NOT NULL, 'x'::varchar(3), 'y'::char(2), 1::bool, '1'::"char", placed::text FROM orders ORDER BY id LIMIT 3
SELECT text 'x', int '5', date '2024-02-29', timestamptz '2024-01-01 00:00+00', bool 'yes', numeric '1.50', float8 'NaN', 'infinity'::float8, uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', inet '10.0.0.1/8', '\xdead'::bytea
SELECT point '(1,2)', box '((0,0),(1,1))', circle '<(0,0),2>', spot <-> point '(0,0)', spot <@ box '((0,0),(5,5))', box '((0,0),(2,2))' @> point '(1,1)' FROM products ORDER BY id LIMIT 3
SELECT 'abc' COLLATE "C" < 'abd', name COLLATE "C" FROM products ORDER BY name COLLATE "C" LIMIT 3
SELECT id FROM products ORDER BY price DESC, name USING < LIMIT 3
SELECT id AS x, name FROM products ORDER BY x DESC LIMIT 3
SELECT category AS name, count(*) FROM products GROUP BY category ORDER BY name
SELECT lower(category) AS c FROM products GROUP BY lower(category) ORDER BY c
SELECT category c, sum(price) s FROM products GROUP BY c ORDER BY sum(price) DESC, c
SELECT id + 1 AS next FROM orders ORDER BY id + 1 LIMIT 2
SELECT products.name FROM products ORDER BY products.id LIMIT 2
SELECT public.products.name FROM public.products ORDER BY public.products.id LIMIT 2
SELECT o.id FROM public.orders AS o ORDER BY o.id LIMIT 2
SELECT orders.id, orders.status FROM orders WHERE orders.status <> 'void' ORDER BY orders.id LIMIT 3
SELECT p.n, p.m FROM products AS p(k, n, m) ORDER BY k LIMIT 3
SELECT x FROM (SELECT id, name FROM products) AS d(x) ORDER BY x LIMIT 3
SELECT * FROM ONLY products ORDER BY id LIMIT 2
SELECT count(*) FROM products TABLESAMPLE BERNOULLI (100)
SELECT count(*) FROM orders o TABLESAMPLE SYSTEM (100) REPEATABLE (42) WHERE o.id > 10
SELECT "Key", "select", "a""b" FROM "Mixed Case" ORDER BY "Key"
SELECT m."Key" AS "The Key", m.* FROM "Mixed Case" AS m ORDER BY "The Key"
SELECT ID, Status FROM Orders ORDER BY iD LIMIT 2
SELECT id AS "select", id AS "from" FROM orders ORDER BY "select" LIMIT 2
SELECT id user_id, status value FROM orders ORDER BY user_id LIMIT 2
SELECT o FROM (SELECT 1 AS a, 'b' AS b) o
SELECT (o).a, (o).* FROM (SELECT 1 AS a, 'b' AS b) o
SELECT o.id, o IS NULL, o IS NOT NULL FROM (SELECT 1 AS id) o
SELECT count(o) FROM orders o
SELECT e FROM events e WHERE e.id = 1
SELECT * FROM order_totals ORDER BY customer_id, tenant LIMIT 5
SELECT t.customer_id, t.total / t.orders FROM order_totals t WHERE t.orders > 3 ORDER BY 1, 2 LIMIT 5
SELECT id FROM orders WHERE /* nested /* comment */ here */ id = 1
SELECT id, name, count(*) OVER () FROM (SELECT DISTINCT id, name FROM products WHERE id < 5) q ORDER BY id
SELECT c.id, c.country, count(o.id) AS n, sum(o.amount) AS total FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY total DESC NULLS LAST, c.id LIMIT 7
SELECT c.id, c.country, c.created FROM customers c GROUP BY c.id HAVING count(*) = 1 ORDER BY c.created LIMIT 3
SELECT c.id AS cid, c.country, count(*) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY cid ORDER BY cid LIMIT 3
SELECT c.id, c.country, count(*) FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY 1 ORDER BY 1 LIMIT 3
SELECT kind, count(*) AS n, round(avg((payload ->> 'ms')::numeric), 2) AS ms FROM events GROUP BY kind ORDER BY n DESC, kind
SELECT kind, date_trunc('day', at) AS day, count(*) FROM events GROUP BY kind, day ORDER BY day, kind
SELECT at, at - lag(at) OVER (ORDER BY at) AS gap FROM events ORDER BY at LIMIT 5
SELECT extract(epoch FROM at), extract(isodow FROM at), extract(week FROM at), extract(quarter FROM at) FROM events ORDER BY id LIMIT 3
SELECT kind FROM events WHERE at >= '2024-03-02' AND at < '2024-03-03'::timestamptz ORDER BY id
SELECT kind, sum(count(*)) OVER (ORDER BY kind) FROM events GROUP BY kind ORDER BY kind
SELECT kind, count(*), 100.0 * count(*) / sum(count(*)) OVER () AS pct FROM events GROUP BY kind ORDER BY kind
SELECT a.kind, b.kind, count(*) FROM events a JOIN events b ON b.id = a.id + 1 GROUP BY 1, 2 ORDER BY 1, 2
SELECT * FROM (SELECT kind, row_number() OVER (PARTITION BY kind ORDER BY at) AS rn, id FROM events) x WHERE rn <= 2 ORDER BY kind, rn
WITH first AS (SELECT customer_id, min(placed) AS day FROM orders GROUP BY customer_id), monthly AS (SELECT date_trunc('month', day) AS cohort, count(*) AS n FROM first GROUP BY 1) SELECT cohort, n, sum(n) OVER (ORDER BY cohort) FROM monthly ORDER BY cohort
WITH days AS (SELECT d::date AS d FROM generate_series('2024-01-01'::date, '2024-01-10', '1 day') d) SELECT d, coalesce(sum(amount), 0) FROM days LEFT JOIN orders ON placed = d GROUP BY d ORDER BY d
WITH ranked AS (SELECT o.*, rank() OVER (PARTITION BY status ORDER BY amount DESC NULLS LAST) AS r FROM orders o) SELECT status, id FROM ranked WHERE r = 1 ORDER BY 1, 2
SELECT dept, count(*) AS n FROM employees GROUP BY dept ORDER BY dept
SELECT e.name, m.name AS boss FROM employees e LEFT JOIN employees m ON m.id = e.manager_id ORDER BY e.id
SELECT dept, string_agg(name, ', ' ORDER BY name) FROM employees GROUP BY dept ORDER BY dept
SELECT name FROM employees WHERE dept IN ('d1', 'd2') AND hired > '2015-06-01' ORDER BY name
SELECT lower(name) AS n FROM employees ORDER BY n LIMIT 2
SELECT count(*) FROM customers
SELECT country, count(*) FROM customers GROUP BY country ORDER BY 1 NULLS LAST
SELECT id, name FROM customers ORDER BY id LIMIT 5
SELECT name, count(*) FROM customers GROUP BY name ORDER BY 2 DESC, 1
SELECT id FROM customers WHERE name = 'N' ORDER BY id
SELECT id FROM customers c WHERE c.country = 'de' OR c.country = 'fr' ORDER BY id
SELECT id FROM customers WHERE 1 = 1 OR tenant = 'umbra' ORDER BY id
SELECT count(*) FROM customers a JOIN customers b ON a.country = b.country
SELECT c.id FROM customers AS c WHERE 10 / (c.id - 3) > 0 ORDER BY id
SELECT x.c FROM (SELECT country AS c, tenant FROM customers) x WHERE x.tenant <> 'acme'
SELECT tenant FROM customers GROUP BY tenant
SELECT tenant, (SELECT count(*) FROM orders o WHERE o.tenant = c.tenant) FROM customers c GROUP BY tenant
SELECT o.tenant, c.tenant FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE c.id IS NULL ORDER BY o.id LIMIT 9
SELECT max(id) FROM customers UNION ALL SELECT max(id) FROM orders UNION ALL SELECT max(id) FROM events
SELECT $1::int + 1, $2::text
SELECT random() < 2, gen_random_uuid() IS NOT NULL, clock_timestamp() > '2020-01-01'
SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS x, 2 AS y), xmlconcat('<a/>', '<b/>')
SELECT * FROM xmltable('/r/x' PASSING xmlparse(document '<r><x i="1">a</x><x i="2">b</x></r>') COLUMNS i int PATH '@i', t text PATH '.')
SELECT num_nulls(1, NULL), num_nonnulls(1, NULL), pg_typeof(1.5), pg_column_size('x')
SELECT normalize('é', NFC), 'é' IS NORMALIZED, unistr('\0441')
SELECT trim_scale(1.500), scale(1.50), min_scale(1.50), factorial(5)
SELECT 1 AS a, 2 AS a
SELECT 1 FROM orders WHERE false
SELECT FROM orders WHERE id < 3
SELECT all_ids.ids[1:3] FROM (SELECT array_agg(id ORDER BY id) AS ids FROM orders) all_ids
SELECT id FROM orders WHERE CASE WHEN amount IS NULL THEN false ELSE amount > 90 END ORDER BY id
SELECT id FROM orders WHERE status IN ('paid', 'void') AND NOT (amount < 10 OR amount > 90) ORDER BY id LIMIT 10
SELECT id FROM orders WHERE placed BETWEEN '2024-02-01' AND '2024-02-10' AND note IS NOT NULL ORDER BY id
SELECT DISTINCT o.customer_id % 5 AS m FROM orders o ORDER BY m NULLS LAST
SELECT sum(amount) / NULLIF(count(*), 0) FROM orders WHERE status = 'none'
SELECT id, amount, amount - avg(amount) OVER (PARTITION BY status) AS diff FROM orders ORDER BY id LIMIT 5
SELECT count(*) FROM orders o, customers c WHERE o.customer_id = c.id AND c.country IS NOT DISTINCT FROM NULL
SELECT a.n FROM (SELECT b.n FROM (SELECT c.n FROM (SELECT count(*) AS n FROM orders) c) b) a
SELECT id FROM products WHERE id = 1;
SELECT jsonb_agg(x) FROM (SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind) AS x
SELECT id FROM orders ORDER BY id LIMIT 100000
SELECT (SELECT count(*) FROM (SELECT 1 FROM orders WHERE status = s.status) z) FROM (SELECT DISTINCT status FROM orders) s ORDER BY 1
SELECT lines -> 0 ->> 'sku' AS sku, count(*) FROM orders GROUP BY lines -> 0 ->> 'sku' ORDER BY 2 DESC, 1
SELECT id FROM orders ORDER BY status, id LIMIT 3
SELECT string_agg(x::text, ',' ORDER BY x) FROM generate_series(1, 5) AS t(x) WHERE x % 2 = 1
SELECT array_agg(t ORDER BY t.a) FROM (VALUES (2, 'x'), (1, 'y')) AS t(a, b)
SELECT coalesce((SELECT note FROM orders WHERE id = 5), 'none') AS note
SELECT exists(SELECT 1 FROM orders WHERE amount > 1000) AS any_big
SELECT id FROM orders -- the rest is a comment; SELECT 2
SELECT 't'::boolean AS a, 'f'::bool AS b, bool 't' AS c, CAST('f' AS boolean), 't'::boolean, 'true'::boolean
SELECT '/*+ not a hint */' AS a, '-- no comment' AS b, 'U&''x' AS c, '; DROP TABLE x' AS d
SELECT 'U&"d\0061t"' AS a, E'it\'s /*! fine */' AS b, $$U&'x'$$ AS c -- /*+ and U&'this' too
SELECT w.lexeme, w.positions FROM unnest(to_tsvector('english', 'a quick fox')) AS w ORDER BY 1
SELECT u.tag, u.ordinality FROM unnest(ARRAY['a', 'b']) WITH ORDINALITY AS u(tag) ORDER BY 2
SELECT p.id, p.name FROM unnest(ARRAY(SELECT q FROM products q)) AS p ORDER BY p.id
SELECT w.w, w FROM unnest(ARRAY[3, 1, 2]) AS w ORDER BY w.w
SELECT unnest.unnest FROM unnest(ARRAY[3, 1, 2]) ORDER BY unnest
SELECT status, count(*) FROM orders GROUP BY ROLLUP (status) ORDER BY status NULLS FIRST
SELECT status, extract(month FROM placed), sum(amount) FROM orders GROUP BY CUBE (status, extract(month FROM placed)) ORDER BY 1, 2
SELECT status, customer_id, sum(amount), grouping(status, customer_id) FROM orders GROUP BY GROUPING SETS ((status), (customer_id), ()) ORDER BY 4, 1, 2
SELECT category, name, price, rank() OVER (PARTITION BY category ORDER BY price DESC) AS r FROM products ORDER BY category, r, name
WITH RECURSIVE chain AS (SELECT id, manager_id, name, 1 AS depth, ARRAY[id] AS path FROM employees WHERE manager_id IS NULL UNION ALL SELECT e.id, e.manager_id, e.name, c.depth + 1, c.path || e.id FROM employees e JOIN chain c ON e.manager_id = c.id WHERE NOT e.id = ANY (c.path)) SELECT repeat('  ', depth - 1) || name AS tree, depth FROM chain ORDER BY path
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n), string_agg(n::text, ',' ORDER BY n DESC) FROM t
WITH RECURSIVE fib(a, b) AS (SELECT 0::bigint, 1::bigint UNION ALL SELECT b, a + b FROM fib WHERE b < 1000) SELECT a FROM fib ORDER BY a
SELECT o.id, l.line ->> 'sku' AS sku, (l.line ->> 'qty')::int AS qty FROM orders o CROSS JOIN LATERAL jsonb_array_elements(o.lines) AS l(line) ORDER BY 1, 2 LIMIT 20
SELECT o.id, x.sku, x.qty FROM orders o, LATERAL jsonb_to_recordset(o.lines) AS x(sku text, qty int) ORDER BY o.id, x.sku LIMIT 20
SELECT id, jsonb_path_query_array(lines, '$[*].qty ? (@ > 1)') FROM orders ORDER BY id LIMIT 10
SELECT id FROM orders WHERE lines @? '$[*] ? (@.qty > 2)' ORDER BY id
SELECT id FROM orders WHERE lines @@ '$[*].qty > 2' ORDER BY id
SELECT jsonb_path_exists(lines, '$[*] ? (@.qty >= $min)', '{"min": 2}') FROM orders ORDER BY id LIMIT 5
SELECT jsonb_object_agg(status, n ORDER BY status) FROM (SELECT status, count(*) AS n FROM orders GROUP BY status) s
SELECT jsonb_build_object('id', id, 'amount', amount, 'tags', jsonb_build_array(status, placed)) FROM orders ORDER BY id LIMIT 3
SELECT jsonb_set(profile, '{address,city}', '"Paris"', true) FROM customers ORDER BY id LIMIT 3
SELECT profile #>> '{address,city}', profile -> 'address' ->> 'zip', profile ? 'vip' FROM customers ORDER BY id LIMIT 5
SELECT key, value FROM customers, jsonb_each_text(profile) ORDER BY customers.id, key LIMIT 10
SELECT DISTINCT k FROM customers c, jsonb_object_keys(c.profile) AS k ORDER BY k
SELECT jsonb_pretty(profile) FROM customers ORDER BY id LIMIT 1
SELECT jsonb_strip_nulls('{"a": null, "b": 1}'), jsonb_typeof('[1]'), jsonb_array_length('[1, 2]')
SELECT (jsonb_populate_recordset(NULL::record, '[]')) IS NULL
SELECT DISTINCT ON (customer_id) customer_id, id, placed FROM orders ORDER BY customer_id, placed DESC, id
SELECT percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY amount), mode() WITHIN GROUP (ORDER BY status) FROM orders
SELECT status, percentile_disc(0.5) WITHIN GROUP (ORDER BY amount) FILTER (WHERE amount > 10) FROM orders GROUP BY status ORDER BY 1
SELECT percent_rank(50) WITHIN GROUP (ORDER BY amount), cume_dist(50) WITHIN GROUP (ORDER BY amount), dense_rank(50) WITHIN GROUP (ORDER BY amount) FROM orders
SELECT d::date AS day, count(o.id) FROM generate_series(timestamp '2024-01-01', timestamp '2024-01-31', interval '1 day') AS d LEFT JOIN orders o ON o.placed = d::date GROUP BY 1 ORDER BY 1
SELECT width_bucket(amount, 0, 100, 10) AS bucket, count(*), int4range(min(amount)::int, max(amount)::int, '[]') FROM orders GROUP BY 1 ORDER BY 1
SELECT width_bucket(amount, ARRAY[10, 20, 50]::numeric[]) AS b, count(*) FROM orders GROUP BY b ORDER BY b
SELECT date_trunc('week', placed)::date AS wk, count(*) FILTER (WHERE status = 'paid') AS paid, round(100.0 * count(*) FILTER (WHERE status = 'paid') / count(*), 1) AS pct FROM orders GROUP BY 1 ORDER BY 1
SELECT to_char(placed, 'IYYY-IW'), to_char(amount, 'FM999G990D00'), to_char(interval '90 minutes', 'HH24:MI') FROM orders ORDER BY id LIMIT 3
SELECT age(max(placed)::timestamp, min(placed)::timestamp), max(placed) - min(placed) FROM orders
SELECT extract(epoch FROM interval '1 day'), extract(isodow FROM placed), date_part('quarter', placed) FROM orders ORDER BY id LIMIT 3
SELECT make_date(2024, 2, 29), make_timestamp(2024, 1, 2, 3, 4, 5.5), make_timestamptz(2024, 1, 2, 3, 4, 5, 'UTC'), make_time(1, 2, 3)
SELECT timestamp '2024-01-01' AT TIME ZONE 'Europe/Berlin', timezone('UTC', now()) IS NOT NULL
SELECT justify_interval(interval '35 days 30 hours'), interval '1 month' - interval '3 days', interval 'P1Y2M3DT4H5M6S'
SELECT isfinite(date 'infinity'), date '2024-01-31' + interval '1 month', date '2024-03-01' - 1
SELECT regexp_replace(note, '(\w+)@(\w+)', '\2 at \1', 'g'), regexp_matches(coalesce(note, ''), '[a-z]+', 'g') FROM orders ORDER BY id LIMIT 5
SELECT regexp_split_to_array('a,b;c', '[,;]'), regexp_split_to_table('x y z', '\s+'), regexp_match('abc123', '([a-z]+)(\d+)')
SELECT (regexp_match('abc123', '([a-z]+)(\d+)'))[2]::int
SELECT regexp_count('banana', 'a'), regexp_instr('banana', 'n', 1, 2), regexp_like('Abc', '^a', 'i'), regexp_substr('foo123', '\d+')
SELECT split_part('a.b.c', '.', 2), split_part('a.b.c', '.', -1), left('abc', 2), right('abc', 2), reverse('abc'), initcap('hello world'), lpad('7', 3, '0'), rpad('x', 3, '-')
SELECT translate('abc', 'ab', 'xy'), overlay('Txxxxas' placing 'hom' from 2 for 4), position('b' in 'abc'), strpos('abc', 'c'), substring('abcdef' from 2 for 3), substring('foobar' from 'o(.)b'), trim(both 'x' from 'xxabcxx')
SELECT format('%s is %L and %I, %1$s again', 'a', 'b''c', 'My Col'), concat_ws('-', 'a', NULL, 'b'), concat('a', 1, NULL, true)
SELECT ascii('A'), chr(65), md5('x'), encode(sha256('x'), 'hex'), encode('abc'::bytea, 'base64'), decode('YWJj', 'base64'), to_hex(255), quote_literal('x')
SELECT string_to_array('a,b,,c', ',', ''), array_to_string(ARRAY[1, NULL, 3], ',', '*'), unnest(string_to_array('1 2 3', ' '))::int
SELECT array_agg(DISTINCT status ORDER BY status DESC), array_length(array_agg(id), 1), cardinality(ARRAY[[1, 2], [3, 4]]) FROM orders
SELECT ARRAY[1, 2, 3] && ARRAY[3], ARRAY[1, 2] <@ ARRAY[1, 2, 3], 2 = ANY (ARRAY[1, 2]), 5 > ALL (ARRAY[1, 2]), ARRAY[1, 2] || 3, (ARRAY[1, 2, 3])[2:3]
SELECT array_position(ARRAY['a', 'b'], 'b'), array_remove(ARRAY[1, 2, 1], 1), array_replace(ARRAY[1, 2], 1, 9), array_fill(0, ARRAY[2, 2]), trim_array(ARRAY[1, 2, 3], 1)
SELECT c.id, t.tag, t.n FROM customers c, unnest(c.tags) WITH ORDINALITY AS t(tag, n) ORDER BY c.id, t.n LIMIT 10
SELECT a, b FROM unnest(ARRAY[1, 2], ARRAY['x', 'y', 'z']) AS u(a, b)
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a', 'b'])) WITH ORDINALITY AS r(n, letter, i)
SELECT (SELECT array_agg(x * 2) FROM unnest(ARRAY[1, 2, 3]) AS x WHERE x > 1)
SELECT ARRAY(SELECT id FROM orders ORDER BY id LIMIT 3), ARRAY(SELECT status FROM orders GROUP BY status ORDER BY 1)
SELECT during * tstzrange('2024-01-01', '2024-06-01'), during && tstzrange(now(), NULL), upper(during) - lower(during), isempty(during) FROM events ORDER BY id LIMIT 3
SELECT int4range(1, 10) @> 5, numrange(1.5, 2.5) -|- numrange(2.5, 3), daterange('2024-01-01', '2024-02-01', '[]'), lower_inc(int8range(1, 2)), range_merge(int4range(1, 2), int4range(5, 6))
SELECT int4multirange(int4range(1, 3), int4range(5, 7)) + int4multirange(int4range(3, 5)), range_agg(int4range(id, id + 1)) FROM orders WHERE id < 5
SELECT unnest(datemultirange(daterange('2024-01-01', '2024-01-03'), daterange('2024-02-01', '2024-02-03')))
SELECT name, ts_rank(to_tsvector('english', coalesce(body, '')), q) AS rank FROM products, plainto_tsquery('english', 'fast red') AS q WHERE to_tsvector('english', body) @@ q ORDER BY rank DESC, name
SELECT ts_headline('english', 'a quick brown fox', to_tsquery('quick & fox')), websearch_to_tsquery('"red car" -blue'), phraseto_tsquery('red car'), setweight(to_tsvector('x'), 'A'), tsvector_to_array(to_tsvector('b a'))
SELECT numnode(to_tsquery('a & b')), querytree(to_tsquery('a | b')), strip(to_tsvector('a b')), length(to_tsvector('a b')), ts_lexize('english_stem', 'stars')
SELECT round(avg(amount), 2), trunc(12.345, 1), ceil(1.2), floor(-1.2), sign(-3), abs(-3), mod(7, 3), power(2, 10), sqrt(16), cbrt(27), exp(1), ln(10), log(100), log(2, 8), pi(), degrees(pi()), div(7, 2), gcd(12, 18), lcm(4, 6), factorial(5) FROM orders
SELECT sin(1), cos(1), tan(1), asin(1), acos(1), atan(1), atan2(1, 2), sind(30), cot(1), sinh(1), random() < 1, setseed IS NULL FROM (SELECT 1 AS setseed) s
SELECT greatest(1, 2, NULL), least(1, 2), coalesce(NULL, 3), nullif(1, 1), num_nulls(1, NULL), num_nonnulls(1, NULL), CASE amount WHEN 1 THEN 'a' ELSE 'b' END FROM orders ORDER BY id LIMIT 1
SELECT scale(1.200), min_scale(1.200), trim_scale(1.200), 5 / 2, 5 % 2, 2 ^ 3, |/ 16, ||/ 27, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 3, 8 >> 1, @ -5
SELECT '12.5'::numeric(5, 1), CAST('2024-01-01' AS date), '1'::int::bool, 1::text || 'x', 'abc'::varchar(2), 'abc'::char(5), '{1,2}'::int[], '192.168.0.1/24'::inet, '{"a": 1}'::jsonb, 'a=>1' LIKE 'a%', B'101'::bit(3), '\xDEAD'::bytea, 12.5::money IS NOT NULL, '00:01'::time, '1 day'::interval, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid
SELECT host('192.168.0.1/24'::inet), network('192.168.0.1/24'), masklen('10.0.0.0/8'), inet '10.0.0.1' << inet '10.0.0.0/8', broadcast('10.0.0.0/8'), family('::1'), set_masklen('10.0.0.1/8', 16), abbrev(cidr '10.1.0.0/16')
VALUES (1, 'a'), (2, 'b') ORDER BY 1 DESC LIMIT 1
SELECT v.a, v.b FROM (VALUES (1, 'x'), (2, 'y')) AS v(a, b) JOIN orders o ON o.id = v.a ORDER BY 1
TABLE products ORDER BY id LIMIT 2
SELECT id FROM orders WHERE status = 'paid' INTERSECT SELECT id FROM orders WHERE amount > 20 EXCEPT ALL SELECT id FROM orders WHERE id % 2 = 0 ORDER BY id
(SELECT id, 'o' AS kind FROM orders ORDER BY id LIMIT 2) UNION ALL (SELECT id, 'p' FROM products ORDER BY id LIMIT 2) ORDER BY kind, id
SELECT id, amount, sum(amount) OVER running, avg(amount) OVER (running ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders WINDOW running AS (PARTITION BY customer_id ORDER BY placed, id) ORDER BY id LIMIT 10
SELECT id, count(*) FILTER (WHERE status = 'paid') OVER (ORDER BY id ROWS UNBOUNDED PRECEDING), first_value(id) OVER w, nth_value(amount, 2) OVER (w RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM orders WINDOW w AS (PARTITION BY status ORDER BY id) ORDER BY id LIMIT 5
SELECT placed, sum(count(*)) OVER (ORDER BY placed) AS running FROM orders GROUP BY placed ORDER BY placed LIMIT 10
SELECT *, lag(n) OVER (ORDER BY m) AS before, n::numeric / nullif(lag(n) OVER (ORDER BY m), 0) - 1 AS growth FROM (SELECT date_trunc('month', placed) AS m, count(*) AS n FROM orders GROUP BY 1) s ORDER BY m
SELECT id, placed, placed - row_number() OVER (ORDER BY placed)::int AS island FROM (SELECT DISTINCT ON (placed) id, placed FROM orders ORDER BY placed, id) s ORDER BY placed LIMIT 10
WITH sessions AS (SELECT id, at, at - lag(at) OVER (ORDER BY at) > interval '30 minutes' AS is_new FROM events), numbered AS (SELECT *, count(*) FILTER (WHERE is_new) OVER (ORDER BY at) AS session FROM sessions) SELECT session, count(*), min(at), max(at) FROM numbered GROUP BY session ORDER BY session LIMIT 10
SELECT customer_id, amount FROM orders o WHERE amount = (SELECT max(amount) FROM orders i WHERE i.customer_id = o.customer_id) ORDER BY 1, 2
SELECT c.id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND o.amount > 50) AND NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id AND o.status = 'void') ORDER BY 1
SELECT id FROM orders WHERE (customer_id, status) IN (SELECT customer_id, status FROM orders WHERE amount > 90) ORDER BY id
SELECT id FROM orders WHERE amount > ALL (SELECT price FROM products WHERE price IS NOT NULL) OR status = ANY ('{paid,void}') ORDER BY id
SELECT c.id, o.n, o.total FROM customers c LEFT JOIN LATERAL (SELECT count(*) AS n, sum(amount) AS total FROM orders o WHERE o.customer_id = c.id) o ON true ORDER BY c.id
SELECT a.id, b.id FROM orders a FULL OUTER JOIN orders b ON a.id = b.id + 1 ORDER BY 1 NULLS FIRST, 2 LIMIT 5
SELECT o.id, c.country FROM orders o JOIN customers c ON c.id = o.customer_id AND c.country IS DISTINCT FROM 'DE' WHERE o.placed BETWEEN SYMMETRIC date '2024-12-31' AND date '2024-01-01' ORDER BY 1
SELECT count(*) FROM orders TABLESAMPLE BERNOULLI (100) REPEATABLE (7)
SELECT count(*) FROM products TABLESAMPLE SYSTEM (100)
SELECT status, jsonb_agg(jsonb_build_object('id', id) ORDER BY id) FILTER (WHERE amount > 50) FROM orders GROUP BY status ORDER BY 1
SELECT corr(amount, id), covar_pop(amount, id), covar_samp(amount, id), regr_r2(amount, id), regr_intercept(amount, id), regr_count(amount, id), stddev_samp(amount), var_pop(amount), bit_xor(id) FROM orders
SELECT bool_and(amount > 0), every(id > 0), string_agg(DISTINCT status, '|' ORDER BY status), json_agg(status ORDER BY id) ->> 0, min(status), max(placed) FROM orders
SELECT xmlagg(xmlelement(name row, xmlattributes(id AS id), status) ORDER BY id)::text FROM orders WHERE id < 4
SELECT xmlforest(id, status), xmlconcat('<a/>', '<b/>'), xml_is_well_formed('<a/>'), (xpath('//a/text()', '<a>x</a>'))[1]::text FROM orders WHERE id = 1
SELECT * FROM xmltable('/r/i' PASSING '<r><i n="1">a</i><i n="2">b</i></r>' COLUMNS n int PATH '@n', v text PATH '.', o FOR ORDINALITY)
SELECT point(1, 2) <-> point(4, 6), box(point(0, 0), point(1, 1)) @> point(0.5, 0.5), area(circle(point(0, 0), 1)), spot[0] FROM products ORDER BY id LIMIT 1
SELECT "Key", "select" FROM "Mixed Case" ORDER BY "Key" DESC
SELECT o."id" AS "Order", o.status AS "order status" FROM public."orders" AS o ORDER BY "Order" LIMIT 2
SELECT id AS "from", amount AS "select" FROM orders ORDER BY "from" FETCH NEXT 2 ROWS ONLY
SELECT $1::int + 1, id FROM orders WHERE status = $2 ORDER BY id LIMIT 2
SELECT $1::text[] && tags, id = ANY ($2::int[]) FROM customers ORDER BY id
SELECT 1 WHERE false
SELECT E'tab\there', 'it''s', $$dollar $ quoted$$, $q$nested $$ ok$q$, N'x'
SELECT id, /* block /* nested */ comment */ status FROM orders ORDER BY id LIMIT 1; -- trailing
SELECT count(*) AS "n" FROM orders HAVING count(*) > 0
SELECT id FROM orders ORDER BY CASE status WHEN 'paid' THEN 0 ELSE 1 END, amount DESC NULLS LAST, id OFFSET 2 ROWS FETCH FIRST 3 ROWS ONLY
SELECT status, sum(amount) FROM orders GROUP BY status HAVING sum(amount) > (SELECT avg(amount) FROM orders) ORDER BY 2 DESC
SELECT date_bin('1 hour', at, timestamptz '2024-01-01') AS h, kind, count(*) FROM events GROUP BY h, kind ORDER BY h, kind LIMIT 10
SELECT to_timestamp(1700000000), extract(epoch FROM to_timestamp(1700000000)), clock_timestamp() > now() - interval '1 hour', statement_timestamp() IS NOT NULL
SELECT md5(string_agg(id::text, ',' ORDER BY id)) FROM orders
SELECT c.country, count(DISTINCT o.customer_id), count(*) FILTER (WHERE o.id IS NULL) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.country ORDER BY 1
SELECT id, CASE WHEN amount IS NULL THEN 'none' WHEN amount < 10 THEN 'low' ELSE 'high' END AS band FROM orders ORDER BY id LIMIT 5
SELECT generate_series(1, 3) AS n, generate_series(1, 2) AS m
SELECT n, n * n FROM generate_series(10, 1, -3) AS s(n)
SELECT substring(name, 1, 3), upper(name), char_length(name), octet_length(name), bit_length(name), name COLLATE "C" < 'm' FROM products ORDER BY id LIMIT 3
SELECT name LIKE 'a\_%' ESCAPE '\', name ILIKE '%RED%', name NOT LIKE 'x%', name SIMILAR TO '(a|b)%', name ~* '^r', name !~ 'z$', starts_with(name, 'r'), name ^@ 'r' FROM products ORDER BY id LIMIT 3
SELECT attrs ->> 'color', attrs -> 'sizes' -> 0, json_array_length(attrs -> 'sizes'), json_typeof(attrs) FROM products ORDER BY id LIMIT 3
SELECT p.id, e.key, e.value FROM products p, json_each_text(p.attrs) e ORDER BY 1, 2 LIMIT 5
SELECT row(1, 'a') = row(1, 'a'), (1, 2) < (1, 3), row(1, NULL) IS NULL, (SELECT row(1, 2)) IS NOT NULL
SELECT o.status, o.total FROM (SELECT status, sum(amount) FROM orders GROUP BY status) AS o(status, total) ORDER BY 1
WITH a AS MATERIALIZED (SELECT * FROM orders), b AS NOT MATERIALIZED (SELECT status, count(*) AS n FROM a GROUP BY status) SELECT * FROM b ORDER BY status
WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
WITH RECURSIVE t(id, name) AS (SELECT id, name FROM employees WHERE manager_id IS NULL UNION ALL SELECT e.id, e.name FROM employees e JOIN t ON e.manager_id = t.id) SEARCH DEPTH FIRST BY id SET ord SELECT id, name FROM t ORDER BY ord
WITH RECURSIVE t(id) AS (SELECT id FROM employees WHERE id = 1 UNION ALL SELECT e.manager_id FROM employees e JOIN t ON e.id = t.id) CYCLE id SET is_cycle USING path SELECT id, is_cycle FROM t LIMIT 5
SELECT * FROM orders NATURAL JOIN (SELECT 1 AS id) x
SELECT id, o.status FROM orders o JOIN (SELECT id FROM orders WHERE amount > 50) x USING (id) ORDER BY id
SELECT x.* FROM (SELECT id, amount FROM orders) AS x ORDER BY 1 LIMIT 1
SELECT count(*), (count(*) * 1.0 / sum(count(*)) OVER ())::numeric(5, 4) FROM orders GROUP BY status ORDER BY 1
SELECT sum(amount) FILTER (WHERE date_part('year', placed) = 2024) - sum(amount) FILTER (WHERE date_part('year', placed) = 2023) AS diff FROM orders
SELECT customer_id, min(placed) OVER (PARTITION BY customer_id) AS cohort, count(*) OVER (PARTITION BY customer_id, date_trunc('month', placed)) FROM orders ORDER BY 1, 2, 3 LIMIT 5
SELECT a.status, b.status FROM (SELECT DISTINCT status FROM orders) a CROSS JOIN (SELECT DISTINCT status FROM orders) b WHERE a.status < b.status ORDER BY 1, 2
SELECT pg_typeof(amount), pg_typeof(1), pg_column_size(amount) FROM orders ORDER BY id LIMIT 1
SELECT (profile ->> 'age')::int AS age, count(*) FROM customers WHERE profile ->> 'age' ~ '^\d+$' GROUP BY 1 ORDER BY 1
SELECT coalesce(sum(amount), 0)::float8 / greatest(count(*), 1) FROM orders WHERE placed >= current_date - 30
SELECT date_trunc('day', at AT TIME ZONE 'America/New_York') AS d, count(*) FROM events GROUP BY d ORDER BY d LIMIT 3
SELECT id, lines -> 0 -> 'sku', lines #> '{0,qty}', lines - 0, lines || '[]'::jsonb FROM orders ORDER BY id LIMIT 2
SELECT encode(digest, 'hex') FROM (SELECT sha512('x'::bytea) AS digest) s
SELECT unistr('\0041'), normalize('é', NFC), 'é' IS NFC NORMALIZED, to_ascii('x', 'LATIN1') IS NOT NULL
SELECT bit_count(B'1011'), get_bit(B'101', 0), set_bit('\x00'::bytea, 0, 1), get_byte('\x01'::bytea, 0)
SELECT is_new, count(*) FROM (SELECT placed > '2024-06-01' AS is_new FROM orders) s GROUP BY is_new ORDER BY 1
SELECT o.id FROM orders AS o WHERE o.note IS NOT NULL AND o.note <> '' AND length(o.note) BETWEEN 1 AND 100 ORDER BY o.id LIMIT 3
SELECT id FROM orders WHERE placed <@ daterange('2024-01-01', '2025-01-01') ORDER BY id LIMIT 3
SELECT id FROM orders WHERE extract(dow FROM placed) IN (0, 6) ORDER BY id LIMIT 3
SELECT id FROM orders WHERE amount IS NOT DISTINCT FROM NULL OR amount IS UNKNOWN IS NULL ORDER BY id LIMIT 3
SELECT overlaps_year FROM (SELECT (placed, interval '1 day') OVERLAPS (date '2024-01-01', date '2024-12-31') AS overlaps_year FROM orders) s GROUP BY 1 ORDER BY 1
SELECT string_agg(status, ', ' ORDER BY n DESC, status) FROM (SELECT status, count(*) AS n FROM orders GROUP BY status) s
SELECT json_object_agg(k, v) FROM (VALUES ('a', 1), ('b', 2)) t(k, v)
SELECT jsonb_path_query_first('{"a": [1, 2]}', '$.a[1]'), jsonb_path_match('{"a": 1}', '$.a == 1'), jsonb_insert('{"a": [1]}', '{a, 0}', '0'), jsonb_delete_path IS NULL FROM (SELECT NULL AS jsonb_delete_path) s
SELECT row_to_json(s) FROM (SELECT id, status FROM orders ORDER BY id LIMIT 2) s
SELECT json_build_object('rows', (SELECT json_agg(r) FROM (SELECT id, amount FROM orders ORDER BY id LIMIT 2) r))
SELECT to_json(ARRAY[1, 2]), array_to_json(ARRAY[[1], [2]]), json_strip_nulls('{"a": null}'), json_extract_path_text('{"a": {"b": 1}}', 'a', 'b'), jsonb '{"a": 1}' - 'a'
SELECT hashtext('a') IS NOT NULL, hash_array(ARRAY[1]) IS NOT NULL
SELECT uuid_nil IS NULL, gen_random_uuid() IS NOT NULL FROM (SELECT NULL AS uuid_nil) s
SELECT ceiling(amount), amount::int, amount::bigint % 7, round(amount::numeric, -1), to_number('1,234.5', '9G999D9') FROM orders ORDER BY id LIMIT 2
SELECT count(*) FROM orders o1 JOIN orders o2 ON o2.customer_id = o1.customer_id AND o2.placed BETWEEN o1.placed AND o1.placed + 7 AND o2.id <> o1.id
SELECT avg(diff) FROM (SELECT placed - lag(placed) OVER (PARTITION BY customer_id ORDER BY placed) AS diff FROM orders) s
SELECT ntile(10) OVER (ORDER BY amount) AS decile, amount FROM orders ORDER BY amount, id LIMIT 10
SELECT status, min(amount), percentile_cont(0.25) WITHIN GROUP (ORDER BY amount), percentile_cont(0.5) WITHIN GROUP (ORDER BY amount), max(amount) FROM orders GROUP BY status ORDER BY status
SELECT any_value FROM (SELECT min(id) AS any_value FROM orders) s
SELECT 'a'::text COLLATE "C" < 'B', 'a' < 'B' COLLATE "POSIX"
SELECT NOT true OR false AND NULL, true IS NOT FALSE, NULL IS NULL, 1 IS NOT NULL, 'x' ISNULL, 'x' NOTNULL
SELECT CAST(ROW(1, 'x') AS text), (ROW(1, 2)) IS NULL
SELECT extract(century FROM date '2024-01-01'), extract(timezone_hour FROM now()) IS NOT NULL, extract(julian FROM date '2024-01-01')
SELECT current_date + 1 > current_date, localtimestamp(0) IS NOT NULL, current_time IS NOT NULL, now()::date = current_date, timeofday() IS NOT NULL
SELECT o.*, c.country FROM orders o LEFT JOIN customers c ON c.id = o.customer_id ORDER BY o.id LIMIT 2
