"""The SQL policy: pure, from (text, dialect, policy, catalog, tenant) to a verdict. docs/policy.md is its reference."""

from workers.sql.policy.catalog import Catalog, CatalogColumn, CatalogTable
from workers.sql.policy.document import Dialect, Policy, load_policy
from workers.sql.policy.verdict import judge

__all__ = ["Catalog", "CatalogColumn", "CatalogTable", "Dialect", "Policy", "judge", "load_policy"]
