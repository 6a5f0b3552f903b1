"""The parts of scripts/chaos. Each module's docstring says what it promises.

- `plan`: which faults, in which order, with which parameters. Pure
- `processes`, `postgres`, `redis`, `server`, `disk`, `proxy`: what is broken, and how
- `faults`: the plan's words as deeds; `probe`: when it works again
- `mix`, `journal`, `resend`, `writer`: clients that change things and write down what they were told
- `watchers`: clients that read; `listener`: one that writes down when
- `cast`: all of them, started
- `facts`, `account`: what the journals say beside what the database says
- `latency`: how long things took around each fault
- `run`, `report`: all of it together, and what it prints
"""
