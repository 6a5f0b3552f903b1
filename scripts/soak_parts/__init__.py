"""The parts of scripts/soak. Each module's docstring says what it promises.

- `stream`: the frames of a topic, as far as anybody has got them, and who is where in them. Pure
- `mix`: what the writers do, and how many events that makes. Pure
- `link`: one client's connection, life after life; `child`: what both processes of clients are made with
- `readers`: the process of those who follow, byte for byte; `writers`: of those who write, and of some who decode
- `sample`: what is measured in an interval; `trend`: slopes, and first and last tenths. Pure
- `account`: what a run came to, and whether it is good. Pure
- `run`, `report`: all of it together, and what it prints
"""
