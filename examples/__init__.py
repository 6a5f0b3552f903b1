"""Programs that show the clients at work; run them from a checkout."""
