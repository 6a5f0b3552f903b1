"""What nodes on one database tell each other: that the log grew, what is ephemeral, who is there. Floor 3.

A hint and never the truth: what is lost here is in the log, and read from it within a second; what is ephemeral may be
lost. So nothing is sent twice, and nobody waits for it.

`line` is what the rest of the server uses; `postgres` and `redis` carry it; `bundle` is what they carry.
"""
