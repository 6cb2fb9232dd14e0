"""What is derived from the log: what the claims should be (one module a claim), who did what, and what is wrong.

Everything here can be thrown away and folded again from the first event. A reader who follows one line comes from
`domain.world`, starts at `reading` (which feeds every event to all of it) and ends at `findings`.
"""
