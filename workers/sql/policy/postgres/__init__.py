"""The postgres dialect: PostgreSQL's own grammar (libpg_query) reads, the tree is checked and rewritten, libpg_query
prints."""
