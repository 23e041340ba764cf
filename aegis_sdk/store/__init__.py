"""What Aegis remembers: records in SQLite, secrets, logs."""
