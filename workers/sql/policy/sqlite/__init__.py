"""The sqlite dialect: SQLite itself compiles a text and says what it would read; the text is then framed, never
rewritten."""
