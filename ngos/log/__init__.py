"""The log: what changed, numbered, committed with the change, and its way to the subscribers.

- `write`: a command that changes something, how it is applied, and what it comes to
- `committer`, with `plan` and `batch`: gathers writes into one transaction, answers after the commit
- `store`: the event table; `replies`: the replies that were given; `retention`: how long both stay
- `relay`: what committed, in order, to the hub
- `hub`, with `topic`: topics to subscribers, live; `history`, with `tail`: what was before, for those who were away

Floor 4: may import `ngos.postgres`, `ngos.protocol`, `ngos.config`, `ngos.errors`.
"""
