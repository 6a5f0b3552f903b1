"""The loads: each module is one kind, run in a process of its own on a core of its own, with picows on uvloop.

`python -m bench_loads.KIND --url … --server-pid … --dialect …`, started by bench_frame.py. Each prints one JSON
object of numbers on stdout, or says in one line what went wrong and ends with exit code 1. `common` holds what they
share, `dialects` what has to be said to which server. They know nothing of ngos but its protocol.
"""
