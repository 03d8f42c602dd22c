"""A job from its lease to the objects in the outbox."""
