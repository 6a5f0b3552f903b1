"""The rules of tokens, graph, experience and topics, and their SQL.

A command is one class in `ngos.protocol.commands` and one function here, marked `@writes` or `@reads` (`handlers`).
Floor 5: may import what is below.
"""
