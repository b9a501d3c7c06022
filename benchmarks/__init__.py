"""How fast storemon is, against others, measured side by side (`make bench`). Not part of the package."""
