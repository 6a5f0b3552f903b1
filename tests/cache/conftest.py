"""Databases that are emptied for each test; see tests/services/conftest.py."""

from __future__ import annotations

from tests.services.conftest import database_url, node, peer, reused_database_url

__all__ = ["database_url", "node", "peer", "reused_database_url"]
