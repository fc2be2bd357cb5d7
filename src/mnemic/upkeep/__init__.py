"""What happens between conversations. It changes no memory's words."""
