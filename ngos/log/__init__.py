"""The log: what changed, numbered, committed with the change, and its way to the subscribers.

- `store`: append to the log and read positions, in SQL
- `committer`: gathers writes into one transaction, answers after the commit
- `plan`: which writes of a batch may be applied together
- `hub`: topics to subscribers

Floor 4: may import `ngos.postgres`, `ngos.protocol`, `ngos.config`, `ngos.errors`.
"""
