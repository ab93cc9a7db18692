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
FROM orders SELECT status, count(*) GROUP BY ALL ORDER BY ALL
FROM orders ORDER BY id LIMIT 3
SELECT * EXCLUDE (note) FROM orders ORDER BY id LIMIT 3
SELECT * REPLACE (upper(status) AS status) FROM orders ORDER BY id LIMIT 3
SELECT status, sum(amount) FROM orders GROUP BY ALL HAVING sum(amount) > 10 ORDER BY ALL
SELECT id, amount, row_number() OVER (PARTITION BY status ORDER BY amount DESC, id) AS rn FROM orders QUALIFY rn <= 2 ORDER BY status, rn
SELECT arg_max(id, amount), arg_min(id, amount), max_by(id, amount), min_by(id, amount) FROM orders
SELECT approx_count_distinct(status) > 0, approx_quantile(amount, 0.5) IS NOT NULL, quantile_cont(amount, [0.25, 0.5, 0.75]), median(amount), mode(status), entropy(status) > 0, skewness(amount) IS NOT NULL, kurtosis(amount) IS NOT NULL FROM orders
SELECT list(id ORDER BY id), list_sort(list(status)), array_agg(DISTINCT status ORDER BY status), histogram(status) FROM orders
SELECT [x * 2 FOR x IN [1, 2, 3] IF x > 1], list_transform([1, 2], lambda x: x + 1), list_filter([1, 2, 3], lambda x: x > 1), list_reduce([1, 2, 3], lambda a, b: a + b)
SELECT {'a': 1, 'b': 'x'}.a, struct_pack(a := 1).a, map(['a'], [1])['a'], map_keys(map {'a': 1}), unnest([1, 2])
SELECT unnest({'a': 1, 'b': 2})
SELECT list_contains([1, 2], 1), len([1, 2]), [1, 2, 3][2], [1, 2, 3][1:2], list_aggregate([1, 2], 'sum'), flatten([[1], [2]]), list_distinct([1, 1]), list_zip([1], ['a'])
SELECT strftime(placed, '%Y-%m'), strptime('2024-01-02', '%Y-%m-%d'), date_diff('day', placed, DATE '2024-12-31'), date_part('dow', placed), dayname(placed), monthname(placed), last_day(placed), make_date(2024, 1, 2), epoch(placed::TIMESTAMP) FROM orders ORDER BY id LIMIT 2
SELECT date_add(DATE '2024-01-31', INTERVAL 1 MONTH), DATE '2024-01-01' + INTERVAL 3 DAY, age(TIMESTAMP '2024-02-01', TIMESTAMP '2024-01-01'), time_bucket(INTERVAL '7 days', DATE '2024-01-10')
SELECT range FROM range(5) ORDER BY 1
SELECT * FROM generate_series(1, 3) t(n)
SELECT generate_series FROM generate_series(DATE '2024-01-01', DATE '2024-01-03', INTERVAL 1 DAY)
SELECT * FROM (SELECT status, amount FROM orders) PIVOT (sum(amount) FOR status IN ('paid', 'void'))
UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b INTO NAME k VALUE v
SELECT * FROM (SELECT 1 AS a, 2 AS b) UNPIVOT (v FOR k IN (a, b))
SELECT o.id, p.at FROM orders o ASOF JOIN (SELECT DATE '2024-01-01' AS at) p ON o.placed >= p.at ORDER BY 1 LIMIT 3
SELECT a.id FROM orders a SEMI JOIN orders b ON a.id = b.id ORDER BY 1 LIMIT 2
SELECT a.id FROM orders a ANTI JOIN (SELECT 1 AS id) b ON a.id = b.id ORDER BY 1 LIMIT 2
SELECT * FROM orders POSITIONAL JOIN (SELECT 1 AS one) x ORDER BY id LIMIT 1
SELECT status, count(*) FROM orders GROUP BY CUBE (status) ORDER BY 1 NULLS FIRST
SELECT status, grouping(status), count(*) FROM orders GROUP BY ROLLUP (status) ORDER BY 1 NULLS LAST
SELECT regexp_extract(status, '(p)(a)', 1), regexp_matches(status, '^p'), regexp_replace(status, 'a', 'b', 'g'), string_split('a,b', ','), str_split_regex('a1b', '\d'), regexp_extract_all('a1b2', '\d') FROM orders ORDER BY id LIMIT 2
SELECT lower(status), concat_ws('-', status, id), format('{} {}', 1, 'a'), printf('%05d', 7), lpad('7', 3, '0'), contains(status, 'a'), starts_with(status, 'p'), levenshtein('a', 'b'), jaccard('ab', 'bc'), md5('x'), hash('a') IS NOT NULL FROM orders ORDER BY id LIMIT 2
SELECT json_extract('{"a": [1, 2]}', '$.a[0]'), '{"a": 1}'::JSON ->> '$.a', json_extract_string('{"a": "x"}', 'a'), json_array_length('[1]'), json_type('1'), json_keys('{"a": 1}'), to_json({'a': 1}), json_valid('x')
SELECT try_cast('x' AS INTEGER), '12'::BIGINT, CAST(1.5 AS DECIMAL(4, 2)), 1::VARCHAR, 'true'::BOOLEAN, '1 day'::INTERVAL, [1, 2]::VARCHAR[]
SELECT sum(amount) FILTER (status = 'paid') AS paid FROM orders
SELECT count(*) FILTER (WHERE amount > 10), bool_and(amount > 0), string_agg(status, ',' ORDER BY id), product(1.0), bit_or(id), first(status ORDER BY id), last(status ORDER BY id), any_value(1) FROM orders
SELECT id, sum(amount) OVER (ORDER BY placed RANGE BETWEEN INTERVAL 7 DAYS PRECEDING AND CURRENT ROW) FROM orders ORDER BY id LIMIT 3
SELECT id, lag(amount IGNORE NULLS) OVER (ORDER BY id), lead(amount, 1, 0) OVER w, ntile(4) OVER w, cume_dist() OVER w FROM orders WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 3
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT list(n) FROM t
WITH a AS MATERIALIZED (SELECT status, count(*) AS n FROM orders GROUP BY 1) SELECT * FROM a ORDER BY n, status
SELECT * FROM orders USING SAMPLE 100%
SELECT count(*) FROM orders TABLESAMPLE 100%
SELECT status FROM orders UNION SELECT 'x' ORDER BY 1
SELECT id FROM orders UNION ALL BY NAME SELECT 1 AS id ORDER BY 1 LIMIT 2
SELECT id FROM orders EXCEPT SELECT 1 ORDER BY 1 LIMIT 2
SELECT * FROM (VALUES (1, 'a')) v(x, y)
SELECT c.id, t.tag FROM customers c, UNNEST(['a', 'b']) t(tag) ORDER BY 1, 2 LIMIT 4
SELECT o.id, l.x FROM orders o, LATERAL (SELECT o.id * 2 AS x) l ORDER BY 1 LIMIT 3
SELECT CASE WHEN amount > 10 THEN 'hi' ELSE 'lo' END AS band, count(*) FROM orders GROUP BY band ORDER BY band
SELECT if(1 > 0, 'a', 'b'), ifnull(NULL, 1), coalesce(NULL, 2), nullif(1, 1), greatest(1, 2), least(1, 2)
SELECT 7 // 2, 7 % 2, 2 ** 3, 5 & 3, 5 | 3, xor(5, 3), 1 << 3, @(-5), 5!, round(2.345, 2), trunc(2.7), even(2.3), gamma(3), lgamma(3), sqrt(4), pow(2, 3), log10(100), ln(2), pi(), isnan('nan'::DOUBLE)
SELECT current_date IS NOT NULL, now() IS NOT NULL, today() IS NOT NULL, 1
SELECT bar(5, 0, 10), 'a' || 'b', 'abc'[1], 'abc'[1:2], left('abc', 1), reverse('abc'), repeat('a', 2), instr('abc', 'b'), strip_accents('é'), nfc_normalize('é'), unicode('a'), chr(97), ascii('a')
SELECT id FROM orders WHERE status IN ('paid', 'void') AND amount BETWEEN 1 AND 1000 AND note IS NOT DISTINCT FROM NULL ORDER BY id LIMIT 3
SELECT id FROM orders WHERE status LIKE 'p%' OR status ILIKE 'V%' OR status GLOB 'p*' OR status SIMILAR TO 'p.*' ORDER BY id LIMIT 3
SELECT id FROM orders WHERE id IN (SELECT customer_id FROM orders) ORDER BY id LIMIT 3
SELECT status, count() FROM orders GROUP BY status ORDER BY count() DESC, status
SELECT id AS i, i + 1 AS j FROM orders ORDER BY i LIMIT 2
SELECT max(amount, 2) FROM orders
SELECT median(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders ORDER BY id LIMIT 3
SELECT status, list(amount ORDER BY amount DESC)[1:3] FROM orders GROUP BY status ORDER BY status
SELECT corr(amount, id), covar_pop(amount, id), regr_slope(amount, id), stddev_pop(amount), var_samp(amount), fsum(amount), sem(amount) IS NOT NULL, mad(amount) FROM orders
SELECT columns.n FROM (SELECT 1 AS n) AS columns
SELECT 1 AS "select", 2 AS "from"
SELECT id FROM main.orders o WHERE o.placed >= DATE '2024-01-01' ORDER BY o.id OFFSET 1 LIMIT 2
SELECT epoch_ms(0), century(DATE '2024-01-01'), quarter(DATE '2024-05-01'), isodow(DATE '2024-05-01'), week(DATE '2024-05-01'), yearweek(DATE '2024-01-01'), datediff('month', DATE '2024-01-01', DATE '2024-03-01')
SELECT list_value(1, 2), array_value(1, 2), list_slice([1, 2, 3], 1, 2), list_concat([1], [2]), list_position([1, 2], 2), array_length([1]), list_unique([1, 1]), list_has_any([1], [1]), list_cosine_similarity([1.0, 2.0], [1.0, 2.0])
SELECT typeof(1), typeof(amount) FROM orders ORDER BY id LIMIT 1
SELECT count(*) FROM (FROM orders WHERE amount > 5)
SELECT * FROM orders WHERE amount = (SELECT max(amount) FROM orders) ORDER BY id
SELECT a.status, count(*) AS n FROM orders a JOIN orders b USING (customer_id) GROUP BY a.status ORDER BY ALL
SELECT struct_extract({'a': 1}, 'a'), struct_insert({'a': 1}, b := 2), row(1, 2), map_entries(map {'a': 1}), element_at(map {'a': 1}, 'a'), cardinality(map {'a': 1})
SELECT string_agg(DISTINCT status, '|' ORDER BY status) FROM orders
SELECT '2024-01-01'::DATE - '2023-01-01'::DATE, TIMESTAMP '2024-01-01 00:00:00' - INTERVAL 1 HOUR, TIME '12:00'
SELECT base64(encode('x')), from_base64('eA=='), hex(255), unhex('FF'), bin(5), sha256('x'), url_encode('a b'), url_decode('a%20b')
SELECT trim(' x '), ltrim('xx', 'x'), substring('abc', 2, 1), substr('abc', 2), position('b' IN 'abc'), length('abc'), strlen('abc'), replace('a', 'a', 'b'), translate('abc', 'a', 'x'), split_part('a-b', '-', 2), suffix('abc', 'c'), prefix('abc', 'a')
SELECT * FROM (PIVOT orders ON status IN ('paid', 'void') USING sum(amount))
SELECT * FROM orders PIVOT (count(*) FOR status IN ('paid', 'void') GROUP BY customer_id)
WITH p AS (PIVOT orders ON status IN ('paid') USING count(*) GROUP BY customer_id) SELECT * FROM p
FROM (SELECT id, amount FROM orders) UNPIVOT (v FOR k IN (amount))
SELECT lag(amount, 1) OVER (PARTITION BY status ORDER BY id) FROM orders
SELECT sum(DISTINCT amount) OVER () FROM orders
SELECT first_value(amount IGNORE NULLS) OVER (ORDER BY id) FROM orders
SELECT last_value(amount RESPECT NULLS) OVER (ORDER BY id) FROM orders
SELECT list(amount ORDER BY id) OVER (ORDER BY id) FROM orders
SELECT status[1], amount::INT::VARCHAR FROM orders
SELECT id FROM orders WHERE note IS NULL LIMIT 10%
SELECT sum(amount) AS total, total / 2 AS half FROM orders
SELECT o FROM orders o LIMIT 1
SELECT x.* FROM orders x ORDER BY ALL LIMIT 1
SELECT name.lower(), products.name.upper().substr(1, 4) FROM products ORDER BY id LIMIT 3
SELECT profile.city.upper(), country.concat('!') FROM customers ORDER BY id LIMIT 3
SELECT profile.* FROM customers ORDER BY id LIMIT 3
SELECT ARRAY(SELECT id FROM orders ORDER BY id LIMIT 3) AS ids
SELECT #1, #2 FROM products ORDER BY #1 LIMIT 3
SELECT (SELECT count(*) FROM orders o WHERE o.customer_id = c.id), EXISTS (FROM orders), c.id IN (SELECT customer_id FROM orders) FROM customers c ORDER BY c.id LIMIT 3
SELECT * FROM (SELECT id, (SELECT count(*) FROM orders) FROM products) ORDER BY id LIMIT 3
SELECT count(*) FROM orders TABLESAMPLE reservoir(20 ROWS)
SELECT count(*) FROM orders USING SAMPLE 30 ROWS
