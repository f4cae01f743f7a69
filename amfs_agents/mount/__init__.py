"""A namespace as a directory of the operating system, by FUSE: `amfs mount`.

`names` says what a path stands for, `tree` what is where, `draft` and `drafts` hold what is being
written, `history` shows earlier versions, `operations` answers the kernel. `docs/design/mount.md`
says why it is as it is.
"""
