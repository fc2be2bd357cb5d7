"""Ways in from outside: each parses, calls one method of the door, and renders what comes back."""
