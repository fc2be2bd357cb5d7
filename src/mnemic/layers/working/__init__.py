"""Working memory: a session within a window of tokens, of messages, or summed up."""
