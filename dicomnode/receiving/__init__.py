"""From an association into the archive and the database; Success is answered only after both."""
