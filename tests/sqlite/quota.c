// The C library, on a file system where a quota has been reached as long as the file exists that
// QUOTA_REACHED names: test_sqlite.py loads this before it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_refused(int fd) {
    struct stat file;
    return fd > 2 && access(getenv("QUOTA_REACHED"), F_OK) == 0 && fstat(fd, &file) == 0 &&
           S_ISREG(file.st_mode);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    if (is_refused(fd)) {
        errno = EDQUOT;
        return -1;
    }
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    return real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return pwrite64(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (is_refused(fd)) {
        errno = EDQUOT;
        return -1;
    }
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return real(fd, data, size);
}
