"""The bench without its speed, and the pages that it makes."""
