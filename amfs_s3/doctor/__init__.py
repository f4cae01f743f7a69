"""What `amfs doctor` looks at in a bucket."""
