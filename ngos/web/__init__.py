"""The Quart app: `/ws` and the HTTP routes of protocol.md section 10. Floor 7: may import what is below.

- `site`: the app and its routes
- `guard`: who may come in
- `assets`: the monitor page, as it was built
- `metrics`: what `/metrics` shows
"""
