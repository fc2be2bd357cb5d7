"""Text to memories: reading what the caller gives, cutting passages, committing, embedding."""
