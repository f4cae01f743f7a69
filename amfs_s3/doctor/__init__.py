"""The checks of `amfs doctor` for a bucket."""
