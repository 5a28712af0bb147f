"""Work on other threads than the reactor's, and how its results come back."""
