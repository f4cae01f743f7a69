"""Create the bucket that `AMFS_S3_BUCKET` names, unless it is there: AMFS itself makes none."""

import os

import boto3

bucket = os.environ["AMFS_S3_BUCKET"]
client = boto3.client("s3", endpoint_url=os.environ["AMFS_S3_ENDPOINT"])
try:
    client.create_bucket(Bucket=bucket)
    print(f"created bucket {bucket}")
except client.exceptions.BucketAlreadyOwnedByYou:
    print(f"bucket {bucket} is there")
