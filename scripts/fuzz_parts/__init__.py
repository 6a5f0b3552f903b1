"""The parts of scripts/fuzz. Each module's docstring says what it promises.

- `material`: commands and what is nearly one, made from the command classes; mutations. Pure
- `wire`: frames and requests, byte for byte. Pure
- `oracles`: what must hold for any bytes at all, in this process. Pure
- `guided`: the child process that looks for inputs by which an oracle fails
- `server`: a server to be attacked, and what must be true of it afterwards
- `sessions`: random connections, and what each may get back
- `attacks`: known attacks by name, each with what must come of it
- `findings`: what was found, as files that can be replayed
- `run`: all of it together, in a given time
"""
