"""Everything the system can do, as the verbs of one interface."""
