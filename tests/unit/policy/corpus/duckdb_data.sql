INSERT INTO customers SELECT n, CASE WHEN n % 3 = 0 THEN 'umbra' ELSE 'acme' END, 'Name ' || n % 17, 'user' || n, ['de', 'fr', 'us', NULL][n % 4 + 1], ['t' || n % 5, 'all'], {'age': n % 70, 'city': 'C' || n % 6} FROM range(1, 121) t(n);
INSERT INTO orders SELECT n, n % 130, CASE WHEN n % 3 = 0 THEN 'umbra' ELSE 'acme' END, CASE WHEN n % 19 = 0 THEN NULL ELSE n % 97 + 0.5 END, ['open', 'paid', 'void'][n % 3 + 1], DATE '2024-01-01' + CAST(n % 400 AS INTEGER), CASE WHEN n % 5 = 0 THEN 'note ' || n END, to_json([{'sku': 'p' || n % 7, 'qty': n % 4}]) FROM range(1, 601) t(n);
INSERT INTO products SELECT n, 'Product ' || n, n * 1.25, 'cat' || n % 4 FROM range(1, 41) t(n);
INSERT INTO employees SELECT n, CASE WHEN n // 3 = 0 THEN NULL ELSE n // 3 END, 'Emp ' || n, 'd' || n % 4, 1000 + n FROM range(1, 41) t(n);
INSERT INTO secrets VALUES (1, 'top');
