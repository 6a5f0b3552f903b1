"""Postgres on Trio: the driver, the pool, the migrations, the embedded server. Imports ngos.errors only."""
