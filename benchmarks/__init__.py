"""Speed as ratios to the raw client, measured in the same run. `make bench`."""
