CREATE TEMP TABLE n AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 600) SELECT n FROM c;
INSERT INTO customers SELECT n, CASE WHEN n % 3 = 0 THEN 'umbra' ELSE 'acme' END, 'Name ' || (n % 17), 'user' || n, CASE n % 4 WHEN 0 THEN 'de' WHEN 1 THEN 'fr' WHEN 2 THEN 'us' END, json_object('age', n % 70, 'city', 'C' || (n % 6)) FROM n WHERE n <= 120;
INSERT INTO orders SELECT n, n % 130, CASE WHEN n % 3 = 0 THEN 'umbra' ELSE 'acme' END, CASE WHEN n % 19 = 0 THEN NULL ELSE n % 97 + 0.5 END, CASE n % 3 WHEN 0 THEN 'open' WHEN 1 THEN 'paid' ELSE 'void' END, date('2024-01-01', '+' || (n % 400) || ' days'), CASE WHEN n % 5 = 0 THEN 'note ' || n END, json_array(json_object('sku', 'p' || (n % 7), 'qty', n % 4)) FROM n;
INSERT INTO products SELECT n, 'Product ' || n, n * 1.25, 'cat' || (n % 4) FROM n WHERE n <= 40;
INSERT INTO employees SELECT n, nullif(n / 3, 0), 'Emp ' || n, 'd' || (n % 4), 1000 + n FROM n WHERE n <= 40;
INSERT INTO secrets VALUES (1, 'top');
DROP TABLE n;
