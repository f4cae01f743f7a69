"""The S3 adapter: a bucket of any S3-compatible service as a store."""

from amfs_s3.adapter import S3Adapter

__all__ = ["S3Adapter"]
