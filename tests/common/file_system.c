// A file system with faults, for any program: LD_PRELOAD. Each is an environment variable.
//
//   FAULT_CHMOD=1             chmod is refused
//   FAULT_RENAME=ERRNO        rename is refused
//   FAULT_LINK=1              hard links are refused
//   FAULT_FLOCK=WHAT          flock fails with enolck or enosys, never returns (hang), or always succeeds (ok)
//   FAULT_CASE=NAME           below folders of this name, case is ignored: names are stored in lower case
//   FAULT_LOG=FILE            calls of fsync and rename are written there, with the paths they are about
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define LONGEST 4096

static const char *folded(const char *path, char *buffer) {
    const char *name = getenv("FAULT_CASE");
    const char *at = name && path ? strstr(path, name) : NULL;
    if (!at || strlen(path) >= LONGEST) return path;
    size_t start = at - path + strlen(name);
    strcpy(buffer, path);
    for (char *c = buffer + start; *c; c++) *c = tolower(*c);
    return buffer;
}

static void logged(const char *what, const char *path) {
    const char *file = getenv("FAULT_LOG");
    if (!file) return;
    REAL(open);
    int log = real(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dprintf(log, "%s %s\n", what, path);
    close(log);
}

static int refused(int error) {
    errno = error;
    return -1;
}

int chmod(const char *path, mode_t mode) {
    REAL(chmod);
    return getenv("FAULT_CHMOD") ? refused(EPERM) : real(path, mode);
}

int fchmod(int fd, mode_t mode) {
    REAL(fchmod);
    return getenv("FAULT_CHMOD") ? refused(EPERM) : real(fd, mode);
}

int fchmodat(int dir, const char *path, mode_t mode, int flags) {
    REAL(fchmodat);
    return getenv("FAULT_CHMOD") ? refused(EPERM) : real(dir, path, mode, flags);
}

int link(const char *old, const char *new) {
    REAL(link);
    return getenv("FAULT_LINK") ? refused(EPERM) : real(old, new);
}

int linkat(int old_dir, const char *old, int new_dir, const char *new, int flags) {
    REAL(linkat);
    return getenv("FAULT_LINK") ? refused(EPERM) : real(old_dir, old, new_dir, new, flags);
}

int flock(int fd, int operation) {
    REAL(flock);
    const char *what = getenv("FAULT_FLOCK");
    if (!what) return real(fd, operation);
    if (!strcmp(what, "hang")) for (;;) pause();
    return !strcmp(what, "ok") ? 0 : refused(!strcmp(what, "enolck") ? ENOLCK : ENOSYS);
}

int rename(const char *old, const char *new) {
    REAL(rename);
    char a[LONGEST], b[LONGEST];
    const char *error = getenv("FAULT_RENAME");
    if (error) return refused(atoi(error));
    logged("rename", new);
    return real(folded(old, a), folded(new, b));
}

int fsync(int fd) {
    REAL(fsync);
    char link[64], path[LONGEST];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    logged("fsync", path);
    return real(fd);
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        REAL(name);                                                                  \
        char a[LONGEST];                                                             \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;      \
        va_end(more);                                                                \
        return real(folded(path, a), flags, mode);                                   \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int dir, const char *path, int flags, ...) {                            \
        REAL(name);                                                                  \
        char a[LONGEST];                                                             \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;      \
        va_end(more);                                                                \
        return real(dir, folded(path, a), flags, mode);                              \
    }
OPENAT(openat)
OPENAT(openat64)

#define ONE(type, name, parameters, arguments)                                       \
    type name parameters {                                                           \
        REAL(name);                                                                  \
        char a[LONGEST];                                                             \
        return real arguments;                                                       \
    }
#define AT folded(path, a)
ONE(int, stat, (const char *path, struct stat *s), (AT, s))
ONE(int, lstat, (const char *path, struct stat *s), (AT, s))
ONE(int, stat64, (const char *path, struct stat64 *s), (AT, s))
ONE(int, lstat64, (const char *path, struct stat64 *s), (AT, s))
ONE(int, fstatat, (int dir, const char *path, struct stat *s, int f), (dir, AT, s, f))
ONE(int, fstatat64, (int dir, const char *path, struct stat64 *s, int f), (dir, AT, s, f))
ONE(int, statx, (int dir, const char *path, int f, unsigned m, struct statx *s), (dir, AT, f, m, s))
ONE(int, access, (const char *path, int mode), (AT, mode))
ONE(int, unlink, (const char *path), (AT))
ONE(int, mkdir, (const char *path, mode_t mode), (AT, mode))
ONE(int, rmdir, (const char *path), (AT))
ONE(ssize_t, readlink, (const char *path, char *b, size_t n), (AT, b, n))
