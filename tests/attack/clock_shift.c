/* Shifts the wall clock of a process by the seconds that the file $CLOCK_SHIFT holds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *shift(void) {
    static volatile int64_t *found;
    if (found == NULL) {
        const char *path = getenv("CLOCK_SHIFT");
        int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        void *at = MAP_FAILED;
        if (file >= 0)
            at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        static volatile int64_t none;
        found = at == MAP_FAILED ? &none : (volatile int64_t *)at;
    }
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift();
    return result;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into != NULL)
        *into = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
