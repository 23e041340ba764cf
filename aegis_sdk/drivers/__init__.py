"""What boots a microVM and gives back a way to connect to it."""
