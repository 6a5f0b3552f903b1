"""The Quart app: `/ws` and the HTTP routes of protocol.md section 10. Floor 7: may import what is below.

- `site`: the app and its routes
- `guard`: who may come in
- `containment`: what fails in one connection of Hypercorn's does not end the others
- `metrics`: what `/metrics` shows
"""
