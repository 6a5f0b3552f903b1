"""Answers that cost the database much to find, kept: none is given that its position does not bear out.

An answer is never trusted because of its age, nor because nobody said that it is past: before it is given, the log is
asked what has happened since, on whatever node, whatever Redis, the backplane or a clock does. What is kept here and
elsewhere can at worst be a miss.

- `tags`      what an answer depends on, and what an event touches, in the same words; pure
- `touches`   when each tag was touched last, as far as is known; pure
- `entry`     an answer as it is kept, and its signed form for Redis; pure
- `heads`     the question to the log, one for all who wait for it
- `memory`    the answers in this process
- `shared`    the answers in Redis
- `answers`   how a read comes to its answer

Floor 4: imports from `log`, `postgres`, `redis`, `protocol` and below.
"""
