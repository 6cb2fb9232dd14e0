"""The daemon's HTTP side: what a cluster posts to it, what people and programs ask it, and how it is looked after.

`routes` has every route in one table, with who may use it; `openapi` writes the same table down for programs. `ingest`
takes audit events, `commands` takes commands, `questions` and `following` answer, `health` and `metrics` are for whoever
runs it. `access` says who is asking, `bodies` reads what was sent within bounds, `server` is uvicorn with its limits.
`adapters/daemon.py` puts it together with the live engine.
"""
