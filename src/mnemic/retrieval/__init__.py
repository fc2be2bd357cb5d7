"""Question to memories: the resident index, its channels, and how their scores become one."""
