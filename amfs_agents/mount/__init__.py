"""A namespace as a directory of the operating system, by FUSE: `amfs mount`.

`names` says what a path stands for, `tree` knows the files and directories, `draft` and `drafts`
hold files being written, `history` shows earlier versions, and `operations` answers the kernel.
`docs/design/mount.md` gives the reasons.
"""
