"""The parts of scripts/hunt. Each module's docstring says what it promises.

- `state`: tokens and edges as the log has made them, and what the reads answer of them. Pure
- `judge`: each read against the state at the position that it claimed. Pure
- `traffic`: those who write and those who read
- `run`: nodes, a Redis, the traffic, and the log afterwards
"""
