SELECT i::regclass::text FROM generate_series(16384, 17000) i
SELECT i::regclass FROM generate_series(16384, 17000) i
SELECT i::pg_catalog."regclass" FROM generate_series(16384, 17000) i
SELECT CAST(i AS regclass) FROM generate_series(16384, 17000) i
SELECT regclass 'hush_table'
SELECT i::regtype FROM generate_series(16384, 17000) i
SELECT i::regproc FROM generate_series(16384, 17000) i
SELECT i::regprocedure FROM generate_series(16384, 17000) i
SELECT i::regnamespace FROM generate_series(16384, 17000) i
SELECT i::regrole FROM generate_series(10, 17000) i
SELECT i::text::regclass FROM generate_series(16384, 17000) i
SELECT (i || '')::regtype FROM generate_series(16384, 17000) i
SELECT 'pg_class'::regclass UNION ALL SELECT i::text FROM generate_series(16384, 17000) i
SELECT ARRAY['pg_class'::regclass::oid, i] FROM generate_series(16384, 17000) i
SELECT pg_typeof(1) UNION ALL SELECT i::text FROM generate_series(16384, 17000) i
SELECT typinput FROM pg_type WHERE typname = 'int4' UNION ALL SELECT i::text FROM generate_series(16384, 17000) i
SELECT * FROM (SELECT typinput FROM pg_type) t UNION ALL SELECT i::text FROM generate_series(16384, 17000) i
SELECT format_type(i, NULL) FROM generate_series(16384, 17000) i
SELECT pg_catalog.format_type(i, -1) FROM generate_series(16384, 17000) i
SELECT format_type((random() * 300)::int + 16384, NULL) FROM generate_series(1, 3000)
SELECT (16384 + (random() * 300)::int)::regclass FROM generate_series(1, 3000)
SELECT pg_get_indexdef(i) FROM generate_series(16384, 17000) i
SELECT pg_get_indexdef(i, 1, true) FROM generate_series(16384, 17000) i
SELECT pg_get_constraintdef(i) FROM generate_series(16384, 17000) i
SELECT pg_get_viewdef(i), pg_get_viewdef('trip_totals'), pg_get_ruledef(i), pg_get_triggerdef(i) FROM generate_series(16384, 17000) i
SELECT pg_get_userbyid(i) FROM generate_series(10, 17000) i
SELECT pg_get_partkeydef(i) FROM generate_series(16384, 17000) i
SELECT pg_get_function_arguments(i), pg_get_function_result(i) FROM generate_series(16384, 17000) i
SELECT pg_get_function_sqlbody(i) FROM generate_series(16384, 17000) i
SELECT obj_description(i, 'pg_class'), obj_description(i, 'pg_type'), obj_description(i, 'pg_proc') FROM generate_series(16384, 17000) i
SELECT obj_description(i, 'pg_namespace'), obj_description(i, 'pg_constraint'), obj_description(i), shobj_description(i, 'pg_database') FROM generate_series(16384, 17000) i
SELECT col_description(i, n) FROM generate_series(16384, 17000) i, generate_series(1, 12) n
SELECT pg_get_serial_sequence(i::regclass::text, 'id') FROM generate_series(16384, 17000) i
SELECT to_regclass('hush_table'), to_regclass('hush_index'), to_regclass('hush_sequence'), to_regtype('hush_mood'), to_regproc('hush_function'), to_regnamespace('hush_schema'), to_regrole('hush_role')
SELECT to_regclass(name) FROM (VALUES ('hush_table'), ('hush_schema.hush_other'), ('trips')) v(name)
SELECT has_table_privilege('hush_table', 'SELECT'), has_schema_privilege('hush_schema', 'USAGE'), has_database_privilege('hush_database', 'CONNECT'), pg_has_role('hush_role', 'USAGE')
SELECT has_column_privilege('trips', 'hush_column', 'SELECT'), has_any_column_privilege('hush_view', 'SELECT')
SELECT pg_partition_ancestors(i) FROM generate_series(16384, 17000) i
SELECT a.relid::regclass FROM pg_class c, LATERAL pg_partition_ancestors(c.oid) a(relid)
SELECT relid::regclass FROM pg_partition_ancestors('hush_partition'::regclass)
SELECT c FROM pg_class c
SELECT c::text FROM pg_class c
SELECT row_to_json(c) FROM pg_class c
SELECT to_jsonb(a.*) FROM pg_attribute a
SELECT string_agg(c::text, ';') FROM pg_constraint c
SELECT json_agg(t) FROM (SELECT * FROM pg_type) t
SELECT conbin::text, conkey::text FROM pg_constraint
SELECT adbin::text FROM pg_attrdef
SELECT indexprs::text, indpred::text, indkey::text FROM pg_index
SELECT relpartbound::text FROM pg_class
SELECT pg_get_expr(relpartbound, oid) FROM pg_class
SELECT pg_get_expr(x.d, x.b) FROM pg_attrdef AS x(a, b, c, d)
SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint
SELECT pg_get_expr(indpred, indrelid), pg_get_expr(indexprs, indrelid) FROM pg_index
SELECT oid::regclass FROM pg_class FULL JOIN generate_series(16384, 17000) AS g(oid) USING (oid)
SELECT oid::regclass FROM pg_class NATURAL FULL JOIN generate_series(16384, 17000) AS g(oid)
SELECT format_type(oid, NULL) FROM pg_type RIGHT JOIN generate_series(16384, 17000) AS g(oid) USING (oid)
SELECT oid::regclass FROM generate_series(16384, 17000) AS g(oid) LEFT JOIN pg_class USING (oid)
SELECT j.oid::regclass FROM (pg_class FULL JOIN generate_series(16384, 17000) AS g(oid) USING (oid)) AS j
SELECT x.oid::regclass FROM pg_class AS x(relname, oid)
SELECT x.relname::regclass FROM pg_class AS x(relname, oid)
SELECT s.oid::regclass FROM (SELECT i AS oid FROM generate_series(16384, 17000) i) s
WITH pg_class AS (SELECT i AS oid FROM generate_series(16384, 17000) i) SELECT oid::regclass FROM pg_class
SELECT (SELECT oid::regclass) FROM generate_series(16384, 17000) AS pg_class(oid)
SELECT CASE WHEN false THEN oid::regclass ELSE (i)::text END FROM pg_class, generate_series(16384, 16500) i
SELECT COALESCE(NULL::regclass, i::text) FROM generate_series(16384, 17000) i
SELECT max(i::regclass::text) OVER () FROM generate_series(16384, 17000) i
SELECT array_agg(i::regclass) FROM generate_series(16384, 17000) i
SELECT lag(i::regclass) OVER (ORDER BY i) FROM generate_series(16384, 17000) i
SELECT i FROM generate_series(16384, 17000) i ORDER BY i::regclass::text
SELECT count(*), i::regclass FROM generate_series(16384, 17000) i GROUP BY i::regclass
SELECT relname::int FROM pg_class
SELECT attname::int FROM pg_attribute ORDER BY attrelid DESC
SELECT * FROM pg_class WHERE relname::int = 1
SELECT * FROM pg_namespace WHERE nspname::date > now()
SELECT description::int FROM pg_description
SELECT enumlabel::int FROM pg_enum
SELECT 1 / (CASE WHEN relname = 'hush_table' THEN 0 ELSE 1 END) FROM pg_class
SELECT attname FROM pg_attribute WHERE attrelid = 'trips'::regclass AND attname ~ 'h'
SELECT attname FROM pg_attribute a LEFT JOIN pg_class c ON c.oid = a.attrelid WHERE c.oid IS NULL
SELECT proname, prosrc, proargnames, proargdefaults::text FROM pg_proc WHERE oid >= 16384
SELECT classid::regclass, objid, refclassid::regclass, refobjid FROM pg_depend WHERE refobjid >= 16384
SELECT objid::regclass, refobjid::regclass FROM pg_depend
SELECT name, setting, reset_val, boot_val, sourcefile FROM pg_settings
SELECT current_setting(name) FROM pg_settings
SELECT current_setting(name) FROM (VALUES ('data_directory'), ('config_file'), ('app.tenant'), ('timezone')) v(name)
SELECT tablename, tableowner FROM pg_tables
SELECT viewname, viewowner, definition FROM pg_views
SELECT indexname, indexdef FROM pg_indexes
SELECT * FROM pg_policies
SELECT * FROM pg_rules
SELECT table_name, view_definition FROM information_schema.views
SELECT constraint_name, check_clause FROM information_schema.check_constraints
SELECT * FROM information_schema.columns WHERE table_schema = 'public'
SELECT * FROM information_schema.role_table_grants
SELECT grantor, grantee FROM information_schema.column_privileges
SELECT * FROM information_schema.schemata
SELECT schema_name::regnamespace FROM information_schema.schemata
SELECT rolname, rolconfig FROM pg_roles
SELECT usename, passwd FROM pg_user
SELECT datname, datacl FROM pg_database
SELECT pg_size_pretty(pg_total_relation_size(c.oid)), pg_relation_size(c.oid) FROM pg_class c
SELECT pg_database_size(d.oid) FROM pg_database d
SELECT relname, reltuples, relpages FROM pg_class WHERE relkind IN ('r', 'i', 'p')
SELECT seqrelid::regclass FROM pg_sequence
SELECT extname FROM pg_extension
SELECT evtname FROM pg_event_trigger
SELECT tgname, tgrelid::regclass, tgfoid::regproc FROM pg_trigger
SELECT stxname, stxkeys::text FROM pg_statistic_ext
SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy
SELECT setconfig FROM pg_db_role_setting
SELECT name, statement FROM pg_prepared_statements
SELECT name, statement FROM pg_cursors
SELECT pg_typeof(c) FROM pg_class c LIMIT 1
SELECT quote_ident(c.oid::regclass::text) || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
SELECT x.n, (x.k).x, (x.k).n FROM (SELECT indexrelid AS n, information_schema._pg_expandarray(indkey) AS k FROM pg_index) x
TABLE pg_class
VALUES ('hush_table'::regclass), ('pg_class'::regclass)
SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname LIKE 'hus%'), (SELECT count(*) FROM pg_attribute WHERE attname LIKE 'hus%')
SELECT tableoid::regclass, c.tableoid::regclass, c.xmin FROM (SELECT 1 AS tableoid) t, pg_class c LIMIT 3
SELECT format('%s %s', c.oid::regclass, c.relnamespace::regnamespace) FROM pg_class c
SELECT concat(i::regclass, i::regtype) FROM generate_series(16384, 17000) i
SELECT typname, typdefault, typrelid::regclass FROM pg_type
SELECT oid, typname FROM pg_type WHERE typname LIKE '\_hus%' OR typname LIKE 'hus%'
SELECT jsonb_object_agg(relname, relkind) FROM pg_class WHERE relkind <> 'i'
SELECT 'pg_class'::regclass UNION ALL SELECT i FROM generate_series(16384, 17000) i
SELECT COALESCE((CASE WHEN false THEN c.oid::regclass END), 16400) FROM pg_class c
VALUES ('pg_class'::regclass), (16400)
SELECT ARRAY['pg_class'::regclass, 16400, 16415]
SELECT lag(c.oid::regclass, 1, 16400) OVER () FROM pg_class c
SELECT greatest(c.oid::regclass, 16400) FROM pg_class c
SELECT to_regclass('pg_class') UNION SELECT i FROM generate_series(16384, 17000) i
SELECT typinput FROM pg_type UNION SELECT i FROM generate_series(16384, 17000) i
SELECT pg_typeof(1) UNION ALL SELECT i FROM generate_series(16384, 17000) i
SELECT relid FROM pg_partition_ancestors('readings_2024') UNION ALL SELECT 16400
SELECT parameter_types FROM pg_prepared_statements UNION ALL SELECT ARRAY[16400]
SELECT (SELECT 'pg_class'::regclass LIMIT 0) UNION ALL SELECT i FROM generate_series(16384, 17000) i
SELECT nullif('pg_class'::regclass, 1) UNION ALL SELECT i FROM generate_series(16384, 17000) i
SELECT r FROM (SELECT 'pg_class'::regclass AS r) x UNION ALL SELECT i FROM generate_series(16384, 17000) i
SELECT (array_agg(x.r))[1] FROM (SELECT 'pg_class'::regclass AS r UNION ALL SELECT 16400) x
SELECT CASE i WHEN 1 THEN 'pg_class'::regclass ELSE i END FROM generate_series(16384, 17000) i
SELECT array_append(ARRAY['pg_class'::regclass], 16400)
SELECT amhandler FROM pg_am UNION ALL SELECT i FROM generate_series(16384, 17000) i
SELECT min(relnamespace::regnamespace::oid)::regnamespace UNION ALL SELECT i FROM generate_series(16384, 17000) i FROM pg_class
