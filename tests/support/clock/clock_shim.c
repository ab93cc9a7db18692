/* A wall clock that is wrong by what a file says, for the processes that preload this: see __init__.py.
 *
 * CLOCK_REALTIME, gettimeofday and time are shifted. Whoever waits until a moment of the wall clock computes that moment
 * from the shifted clock, while the kernel compares with its own: those moments are shifted back. A wait that is under
 * way when the clock jumps is not touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shift_s;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *shift_s, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) shift_s = page;
    close(file);
}

static int64_t shift(void) { return shift_s ? *shift_s : 0; }

static void *next(const char *name, const char *version) {
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return found ? found : dlsym(RTLD_NEXT, name);
}
#define NEXT(function, version)                                                 \
    static __typeof__(function) *real;                                          \
    if (!real) real = (__typeof__(function) *)next(#function, version)

/* A moment of the wall clock, or of the monotonic clock, which counts from the start of the machine. */
static struct timespec unshifted(const struct timespec *moment) {
    struct timespec at = *moment;
    if (at.tv_sec > 400000000) at.tv_sec -= shift();
    return at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime, NULL);
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec at;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (now) *now = at.tv_sec;
    return at.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    NEXT(pthread_cond_timedwait, "GLIBC_2.3.2");
    struct timespec at = unshifted(until);
    return real(cond, mutex, &at);
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t clock,
                           const struct timespec *restrict until) {
    NEXT(pthread_cond_clockwait, NULL);
    struct timespec at = unshifted(until);
    return real(cond, mutex, clock, &at);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    NEXT(pthread_mutex_timedlock, NULL);
    struct timespec at = unshifted(until);
    return real(mutex, &at);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
    NEXT(sem_timedwait, NULL);
    struct timespec at = unshifted(until);
    return real(sem, &at);
}

int sem_clockwait(sem_t *restrict sem, clockid_t clock, const struct timespec *restrict until) {
    NEXT(sem_clockwait, NULL);
    struct timespec at = unshifted(until);
    return real(sem, clock, &at);
}

/* Some libraries (Abseil, Rust's) wait by the system call itself. */
long syscall(long number, ...) {
    NEXT(syscall, NULL);
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long), d = va_arg(list, long);
    long e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    struct timespec at;
    if (number == SYS_futex && (b & FUTEX_CLOCK_REALTIME) && d) {
        at = unshifted((const struct timespec *)d);
        d = (long)&at;
    }
    return real(number, a, b, c, d, e, f);
}
