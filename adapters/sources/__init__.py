"""Readers, one a dialect: each turns what a source gave into records and operations. `audit_log` is the first."""
