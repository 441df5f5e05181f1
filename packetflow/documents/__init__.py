"""Files that people write, in TOML, JSON and YAML: plain values with the place of each, and what is wrong with them in words."""
