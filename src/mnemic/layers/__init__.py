"""The five layers of memory, a file or folder each, on the one store."""
