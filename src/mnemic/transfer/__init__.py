"""Files to memories and back: our own lines, and what others export. Asks the door for everything."""
