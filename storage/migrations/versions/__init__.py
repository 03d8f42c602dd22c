"""The migrations. Each is literal and never changes once released; `schema` may go on without it."""
