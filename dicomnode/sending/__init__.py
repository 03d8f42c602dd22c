"""From the outbox to the archives that asked for results, and their promise to keep them."""
