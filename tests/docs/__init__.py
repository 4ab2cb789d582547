"""The pages of docs/, the README and the examples."""
