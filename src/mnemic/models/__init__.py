"""What computes: text to vectors, to stems, to token counts. Knows no store and no scope."""
