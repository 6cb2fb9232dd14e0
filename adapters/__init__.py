"""Where the engine meets the world: files and stores on one side, people on the other.

One line's way leads from `sources` through `ingest`, `ordering`, `judging` and the `ledger` to `report` and `cli`;
`app` puts them together. `stores` keeps what is kept.
"""
