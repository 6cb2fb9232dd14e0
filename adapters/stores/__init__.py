"""Where a ledger and its journal are kept: `sqlite_file` and its two halves, `memory` for tests, `codec` for events."""
