"""The domain of AMFS: versions, exactly-once appends and what stands on them. Knows no backend."""
