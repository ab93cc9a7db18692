INSERT INTO customers SELECT n, CASE WHEN n % 3 = 0 THEN 'umbra' ELSE 'acme' END, 'Name ' || n % 17, 'user' || n || '@example.org',
    (ARRAY['de', 'fr', 'us', NULL])[n % 4 + 1], ARRAY['t' || n % 5, 'all'], jsonb_build_object('age', n % 70, 'city', jsonb_build_object('name', 'C' || n % 6)),
    timestamptz '2024-01-01 00:00+00' + n * interval '7 hours' FROM generate_series(1, 120) n;
INSERT INTO orders SELECT n, n % 130, CASE WHEN n % 3 = 0 THEN 'umbra' ELSE 'acme' END, CASE WHEN n % 19 = 0 THEN NULL ELSE n % 97 + 0.5 END,
    (ARRAY['open', 'paid', 'void'])[n % 3 + 1], date '2024-01-01' + n % 400, CASE WHEN n % 5 = 0 THEN 'note ' || n END,
    jsonb_build_array(jsonb_build_object('sku', 'p' || n % 7, 'qty', n % 4 + 1), jsonb_build_object('sku', 'q', 'qty', 1)) FROM generate_series(1, 600) n;
INSERT INTO products SELECT n, 'Product ' || n, n * 1.25, 'cat' || n % 4, json_build_object('w', n, 'l', json_build_array(1, n)), 'the quick brown fox ' || n || ' jumps', point(n, n % 5) FROM generate_series(1, 40) n;
INSERT INTO events SELECT n, CASE WHEN n % 2 = 0 THEN 'umbra' ELSE 'acme' END, timestamptz '2024-03-01 00:00+00' + n * interval '53 minutes', (ARRAY['view', 'click', 'buy'])[n % 3 + 1],
    jsonb_build_object('ms', n % 250, 'path', '/p/' || n % 9), tstzrange(timestamptz '2024-03-01 00:00+00' + n * interval '1 hour', timestamptz '2024-03-01 00:00+00' + (n + 5) * interval '1 hour') FROM generate_series(1, 300) n;
INSERT INTO employees SELECT n, NULLIF(n / 3, 0), 'Emp ' || n, 'd' || n % 4, 1000 + n * 10, date '2015-01-01' + n * 30 FROM generate_series(1, 40) n;
INSERT INTO "Mixed Case" VALUES (1, 'x', 10), (2, 'y', 20);
INSERT INTO secrets VALUES (1, 'top');
