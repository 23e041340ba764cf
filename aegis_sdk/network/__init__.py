"""The one way out: what a guest asks for by name, and where it connects to, judged here and dialled from here."""
