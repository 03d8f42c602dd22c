"""Files and rows: the archive, the database, the queue and the outbox. The only SQL, and the only writer of files."""
