"""How fast a run is on this machine, against the bare engine doing the same reading and grouping."""
