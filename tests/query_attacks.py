"""What somebody may try who can only ask: attempt → (SQL, words that the refusal must contain)."""

from __future__ import annotations

NO_FILES = "file system operations are disabled by configuration"
NOT_ALLOWED = "only SELECT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are allowed, and this is"
LOCKED = "the configuration has been locked"

STATEMENTS = {
    "attach a file": ("ATTACH 'other.duckdb'", f"{NOT_ALLOWED} ATTACH"),
    "attach memory": ("ATTACH ':memory:' AS scratch", f"{NOT_ALLOWED} ATTACH"),
    "detach": ("DETACH billing", f"{NOT_ALLOWED} DETACH"),
    "use another database": ("USE memory", f"{NOT_ALLOWED} SET"),
    "copy to a file": ("COPY charges TO 'x.csv'", f"{NOT_ALLOWED} COPY"),
    "copy a query to a device": ("COPY (SELECT 1) TO '/dev/stdout'", f"{NOT_ALLOWED} COPY"),
    "copy from a file": ("COPY charges FROM '/etc/passwd'", f"{NOT_ALLOWED} COPY"),
    "export": ("EXPORT DATABASE 'x'", f"{NOT_ALLOWED} EXPORT"),
    "import": ("IMPORT DATABASE 'x'", f"{NOT_ALLOWED} PRAGMA"),
    "install an extension": ("INSTALL httpfs", f"{NOT_ALLOWED} LOAD"),
    "install by force": ("FORCE INSTALL httpfs FROM 'https://example.invalid'", f"{NOT_ALLOWED} LOAD"),
    "load an extension": ("LOAD '/tmp/ratemill.duckdb_extension'", f"{NOT_ALLOWED} LOAD"),
    "update extensions": ("UPDATE EXTENSIONS", f"{NOT_ALLOWED} something else"),
    "set": ("SET enable_external_access = true", f"{NOT_ALLOWED} SET"),
    "set memory": ("SET memory_limit = '1TB'", f"{NOT_ALLOWED} SET"),
    "reset": ("RESET lock_configuration", f"{NOT_ALLOWED} SET"),
    "pragma": ("PRAGMA database_list", f"{NOT_ALLOWED} PRAGMA"),
    "call": ("CALL pragma_version()", f"{NOT_ALLOWED} CALL"),
    "secret": ("CREATE SECRET (TYPE http)", f"{NOT_ALLOWED} CREATE"),
    "table": ("CREATE TEMP TABLE t AS SELECT 1", f"{NOT_ALLOWED} CREATE"),
    "macro": ("CREATE MACRO f(x) AS x", f"{NOT_ALLOWED} CREATE"),
    "insert": ("INSERT INTO charges SELECT * FROM charges", f"{NOT_ALLOWED} INSERT"),
    "delete": ("DELETE FROM charges", f"{NOT_ALLOWED} DELETE"),
    "merge": ("MERGE INTO charges USING charges AS c ON false WHEN NOT MATCHED THEN INSERT", f"{NOT_ALLOWED} MERGE_INTO"),
    "drop": ("DROP TABLE charges", f"{NOT_ALLOWED} DROP"),
    "begin": ("BEGIN", f"{NOT_ALLOWED} TRANSACTION"),
    "vacuum": ("VACUUM", f"{NOT_ALLOWED} VACUUM"),
    "prepare": ("PREPARE p AS SELECT * FROM read_text('/etc/passwd')", f"{NOT_ALLOWED} PREPARE"),
    "execute": ("EXECUTE p", f"{NOT_ALLOWED} EXECUTE"),
    "pivot without names": ("PIVOT charges ON account_id USING sum(cost)", "PIVOT has to name its columns"),
    "two statements": ("SELECT 1; SELECT 2", "one statement at a time, and this is 2"),
    "a second one behind a comment": ("SELECT 1 /* ; */ ; DROP TABLE charges", "one statement at a time, and this is 2"),
    "a second one on the next line": ("SELECT 1 -- ;\n; SET threads = 1", "one statement at a time, and this is 2"),
    "explain analyze copy": ("EXPLAIN ANALYZE COPY charges TO 'x.csv'", 'Cannot access file "x.csv"'),
    "explain analyze delete": ("EXPLAIN ANALYZE DELETE FROM charges", "read-only mode"),
    "delete inside": ("WITH x AS (DELETE FROM charges RETURNING *) SELECT * FROM x", "read-only mode"),
}  # fmt: skip
"""Not a query at all, or one with something else in it."""

TABLES = {
    "csv": ("read_csv('/etc/passwd')", NO_FILES),
    "text": ("read_text('/etc/passwd')", NO_FILES),
    "bytes": ("read_blob('/proc/self/environ')", NO_FILES),
    "json": ("read_json('/etc/passwd')", NO_FILES),
    "parquet": ("read_parquet('/etc/passwd')", NO_FILES),
    "parquet's footer": ("parquet_metadata('/etc/passwd')", NO_FILES),
    "a csv's form": ("sniff_csv('/etc/passwd')", NO_FILES),
    "another database": ("read_duckdb('other.duckdb')", NO_FILES),
    "names of files": ("glob('/etc/*')", NO_FILES),
    "a link beside the database": ("read_text('link')", NO_FILES),
    "the network": ("read_csv('https://example.invalid/x.csv')", NO_FILES),
    "extensions": ("duckdb_extensions()", NO_FILES),
    "a query in a text": ("query('FROM read_text(''/etc/passwd'')')", NO_FILES),
    "a query as data": (
        "json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))", NO_FILES,
    ),
    "a statement in a text": ("query('COPY charges TO ''x.csv''')", "Expected a single SELECT statement"),
    "two in a text": ("query('SELECT 1; DROP TABLE charges')", "Expected a single SELECT statement"),
    "a file by name": ("'/etc/passwd'", "Table with name /etc/passwd does not exist"),
    "the environment as a file": ("'/proc/self/environ'", "does not exist"),
    "a file by query_table": ("query_table('/etc/passwd')", "Table with name /etc/passwd does not exist"),
    "a Python variable": ("request", "Table with name request does not exist"),
    "a log into a file": ("enable_logging(storage := 'file')", LOCKED),
    "a profile": ("enable_profiling()", LOCKED),
    "a grammar": ("add_grammar_extension('x')", LOCKED),
    "a pointer": ("arrow_scan(1, 2, 3)", "No function matches"),
    "a Python object": ("pandas_scan(1)", "No function matches"),
    "the environment": ("(SELECT getenv('PATH'))", "getenv does not exist"),
}  # fmt: skip
"""In place of a table."""

CONDITIONS = {
    "another query": ("true) UNION SELECT * FROM charges --", "syntax error"),
    "another query, balanced": ("true)) UNION ALL ((SELECT 1, 2 FROM charges WHERE (true", "one condition|syntax error"),
    "more columns": ("true), (false", "one condition"),
    "another table": ("true) FROM charges WHERE (true", "one condition"),
    "an order": ("true) ORDER BY (1", "one condition"),
    "a limit": ("true) LIMIT (1", "one condition"),
    "a group": ("true) GROUP BY (1", "one condition"),
    "a second statement": ("true; DROP TABLE charges", "syntax error"),
    "a second statement in brackets": ("true); DROP TABLE charges; SELECT (1", "one condition|syntax error"),
    "a comment that never ends": ("true /*", "unterminated"),
    "a parameter of its own": ("cost > $cost", r"\$cost has no value"),
    "nothing": ("", "--where is empty"),
    "a comment": ("-- nothing", "--where is empty"),
    "a setting": ("(SET threads = 1)", "syntax error"),
}  # fmt: skip
"""In place of a condition."""
