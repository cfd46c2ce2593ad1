"""The steps of a run. Each reads through ``io``, calls pure stages, and writes through ``io``; no rule lives here."""
