/* A test double of the CUDA driver's C ABI: host memory behind device addresses that nobody can dereference.
 *
 * It is strict where the real driver is: cuInit must come first, memory calls need a context that is current on the
 * calling thread, ranges must lie within one allocation, and what is freed twice is an error. New memory is filled
 * with 0xA5, never with zeroes. An asynchronous copy is done as late as the API allows: when something waits for it.
 *
 * The double_* functions configure it, set faults and read counters. The symbol `tiermem_test_double` marks it.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef struct context *CUcontext;
typedef uint64_t CUdeviceptr;

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, DEVICE_UNAVAILABLE = 46, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, ECC_UNCORRECTABLE = 214, LAUNCH_FAILED = 719,
};

/* Not a canonical address on x86-64: using it as a host pointer faults. */
#define DEVICE_BASE 0x0100000000000000ULL
enum { DEVICES_MAX = 8, ALLOCATIONS_MAX = 4096, STACK_MAX = 16, HANDLES_MAX = 64, QUEUE_MAX = 64 };

struct context { int device; int retained; };
struct allocation { CUdeviceptr at; size_t len; int device; unsigned char *bytes; };
struct copy { void *to; const void *from; size_t len; };
struct stream { int made; long queued, done; struct copy queue[QUEUE_MAX]; };
struct event { int made; struct stream *stream; long after; };
struct pinned { unsigned char *bytes; size_t len; };
struct fault { char call[48]; CUresult status; int skip; int times; };

API const int tiermem_test_double = 1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct context contexts[DEVICES_MAX];
static struct allocation allocations[ALLOCATIONS_MAX];
static struct stream streams[HANDLES_MAX];
static struct event events[HANDLES_MAX];
static struct pinned pinned[HANDLES_MAX];
static struct fault fault;
static CUdeviceptr next_at = DEVICE_BASE;
static size_t memory = 64UL << 20;
static size_t used[DEVICES_MAX];
static int devices = 1, ready, zeroing = 1;
static long calls, staged;
static _Thread_local CUcontext stack[STACK_MAX];
static _Thread_local int depth;

/* --- control, for tests ----------------------------------------------------------------------------------------- */

/* How many devices there are and how many bytes each has; to be called before cuInit. */
API void double_configure(int device_count, size_t device_memory) {
    devices = device_count;
    memory = device_memory;
}

/* Makes `call` return `status` after `skip` good calls, `times` times (-1: from then on). */
API void double_fail(const char *call, CUresult status, int skip, int times) {
    pthread_mutex_lock(&lock);
    snprintf(fault.call, sizeof fault.call, "%s", call);
    fault.status = status;
    fault.skip = skip;
    fault.times = times;
    pthread_mutex_unlock(&lock);
}

/* With 0, cuMemsetD8 reports success and does nothing. */
API void double_zeroing(int on) { zeroing = on; }

/* Calls of the driver so far, those of double_* apart. */
API long double_calls(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

/* Allocations that were not freed. */
API int double_live(void) {
    int live = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < ALLOCATIONS_MAX; i++) live += allocations[i].bytes != NULL;
    pthread_mutex_unlock(&lock);
    return live;
}

/* Pinned buffers, streams and events that were not given back. */
API int double_pinned(void) {
    int live = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < HANDLES_MAX; i++) live += (pinned[i].bytes != NULL) + (streams[i].made != 0) + (events[i].made != 0);
    pthread_mutex_unlock(&lock);
    return live;
}

/* Asynchronous copies that were done. */
API long double_staged(void) { return __atomic_load_n(&staged, __ATOMIC_SEQ_CST); }

/* References held to a device's primary context. */
API int double_retained(int device) { return contexts[device].retained; }

/* Contexts on the calling thread's stack. */
API int double_depth(void) { return depth; }

/* --- the driver's ABI ------------------------------------------------------------------------------------------- */

static CUresult injected(const char *call) {
    CUresult status = SUCCESS;
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&lock);
    if (fault.times != 0 && strcmp(fault.call, call) == 0) {
        if (fault.skip > 0) {
            fault.skip--;
        } else {
            if (fault.times > 0) fault.times--;
            status = fault.status;
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

#define ENTER()                                            \
    do {                                                   \
        CUresult injected_status = injected(__func__);     \
        if (injected_status) return injected_status;       \
        if (!ready) return NOT_INITIALIZED;                \
    } while (0)

#define DEVICE(d)                                          \
    do {                                                   \
        if ((d) < 0 || (d) >= devices) return INVALID_DEVICE; \
    } while (0)

#define CURRENT()                                          \
    do {                                                   \
        if (depth == 0 || stack[depth - 1]->retained <= 0) return INVALID_CONTEXT; \
    } while (0)

API CUresult cuInit(unsigned flags) {
    CUresult status = injected(__func__);
    if (status) return status;
    if (flags) return INVALID_VALUE;
    if (devices < 1 || devices > DEVICES_MAX) return NO_DEVICE;
    for (int i = 0; i < devices; i++) contexts[i].device = i;
    ready = 1;
    return SUCCESS;
}

API CUresult cuDriverGetVersion(int *version) { ENTER(); *version = 12080; return SUCCESS; }

API CUresult cuGetErrorName(CUresult error, const char **name) {
    switch (error) {
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; return SUCCESS;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return SUCCESS;
    case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; return SUCCESS;
    default: *name = NULL; return INVALID_VALUE;
    }
}

API CUresult cuDeviceGetCount(int *count) { ENTER(); *count = devices; return SUCCESS; }

API CUresult cuDeviceGet(CUdevice *device, int index) { ENTER(); DEVICE(index); *device = index; return SUCCESS; }

API CUresult cuDeviceGetName(char *name, int len, CUdevice device) {
    ENTER();
    DEVICE(device);
    snprintf(name, len, "Test double %d", device);
    return SUCCESS;
}

API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    ENTER();
    DEVICE(device);
    *bytes = memory;
    return SUCCESS;
}

API CUresult cuDeviceGetPCIBusId(char *text, int len, CUdevice device) {
    ENTER();
    DEVICE(device);
    snprintf(text, len, "0000:%02X:00.0", 0xA0 + device);
    return SUCCESS;
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER();
    DEVICE(device);
    pthread_mutex_lock(&lock);
    contexts[device].retained++;
    pthread_mutex_unlock(&lock);
    *context = &contexts[device];
    return SUCCESS;
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    ENTER();
    DEVICE(device);
    pthread_mutex_lock(&lock);
    CUresult status = contexts[device].retained > 0 ? SUCCESS : INVALID_CONTEXT;
    if (status == SUCCESS) contexts[device].retained--;
    pthread_mutex_unlock(&lock);
    return status;
}

API CUresult cuCtxPushCurrent_v2(CUcontext context) {
    ENTER();
    if (depth == STACK_MAX || context->retained <= 0) return INVALID_CONTEXT;
    stack[depth++] = context;
    return SUCCESS;
}

API CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    ENTER();
    if (depth == 0) return INVALID_CONTEXT;
    *context = stack[--depth];
    return SUCCESS;
}

API CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    ENTER();
    CURRENT();
    pthread_mutex_lock(&lock);
    *available = memory - used[stack[depth - 1]->device];
    pthread_mutex_unlock(&lock);
    *total = memory;
    return SUCCESS;
}

API CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t len) {
    ENTER();
    CURRENT();
    if (len == 0) return INVALID_VALUE;
    CUresult status = OUT_OF_MEMORY;
    int device = stack[depth - 1]->device;
    pthread_mutex_lock(&lock);
    if (memory - used[device] >= len) {
        for (int i = 0; i < ALLOCATIONS_MAX; i++) {
            struct allocation *a = &allocations[i];
            if (a->bytes) continue;
            if (!(a->bytes = malloc(len))) break;
            memset(a->bytes, 0xA5, len);
            a->at = *at = next_at;
            a->len = len;
            a->device = device;
            next_at += len + (2UL << 20); /* a gap, so that running off the end is noticed */
            used[device] += len;
            status = SUCCESS;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

API CUresult cuMemFree_v2(CUdeviceptr at) {
    ENTER();
    CURRENT();
    CUresult status = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < ALLOCATIONS_MAX; i++) {
        struct allocation *a = &allocations[i];
        if (!a->bytes || a->at != at || a->device != stack[depth - 1]->device) continue;
        free(a->bytes);
        a->bytes = NULL;
        used[a->device] -= a->len;
        status = SUCCESS;
        break;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

/* The host bytes behind a range that lies within one allocation of the current context's device. */
static unsigned char *behind(CUdeviceptr at, size_t len) {
    unsigned char *bytes = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < ALLOCATIONS_MAX && !bytes; i++) {
        struct allocation *a = &allocations[i];
        if (a->bytes && a->device == stack[depth - 1]->device && at >= a->at && len <= a->len && at - a->at <= a->len - len)
            bytes = a->bytes + (at - a->at);
    }
    pthread_mutex_unlock(&lock);
    return bytes;
}

API CUresult cuMemsetD8_v2(CUdeviceptr at, unsigned char value, size_t len) {
    ENTER();
    CURRENT();
    unsigned char *bytes = behind(at, len);
    if (!bytes) return INVALID_VALUE;
    if (zeroing) memset(bytes, value, len);
    return SUCCESS;
}

API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t len) {
    ENTER();
    CURRENT();
    unsigned char *bytes = behind(to, len);
    if (!bytes) return INVALID_VALUE;
    memcpy(bytes, from, len);
    return SUCCESS;
}

API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t len) {
    ENTER();
    CURRENT();
    unsigned char *bytes = behind(from, len);
    if (!bytes) return INVALID_VALUE;
    memcpy(to, bytes, len);
    return SUCCESS;
}

/* --- streams, events and pinned memory --------------------------------------------------------------------------- */

/* Carries out a stream's first `until` copies. */
static void carry_out(struct stream *stream, long until) {
    pthread_mutex_lock(&lock);
    for (; stream->done < until; stream->done++) {
        struct copy *copy = &stream->queue[stream->done % QUEUE_MAX];
        memcpy(copy->to, copy->from, copy->len);
        __atomic_add_fetch(&staged, 1, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&lock);
}

static CUresult enqueue(struct stream *stream, void *to, const void *from, size_t len) {
    if (stream->queued - stream->done == QUEUE_MAX) carry_out(stream, stream->queued);
    stream->queue[stream->queued++ % QUEUE_MAX] = (struct copy){to, from, len};
    return SUCCESS;
}

/* Only pinned memory may be copied asynchronously. */
static int is_pinned(const void *at, size_t len) {
    int found = 0;
    const unsigned char *start = at;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < HANDLES_MAX; i++)
        found |= pinned[i].bytes && start >= pinned[i].bytes && start + len <= pinned[i].bytes + pinned[i].len;
    pthread_mutex_unlock(&lock);
    return found;
}

API CUresult cuStreamSynchronize(struct stream *stream) {
    ENTER();
    CURRENT();
    if (!stream) return SUCCESS;
    if (!stream->made) return INVALID_VALUE;
    carry_out(stream, stream->queued);
    return SUCCESS;
}

/* Makes a handle of the first free place in a table. */
#define MAKE(table, out)                                       \
    do {                                                       \
        CUresult status = OUT_OF_MEMORY;                       \
        pthread_mutex_lock(&lock);                             \
        for (int i = 0; i < HANDLES_MAX && status; i++) {      \
            if (table[i].made) continue;                       \
            memset(&table[i], 0, sizeof table[i]);             \
            table[i].made = 1;                                 \
            *(out) = &table[i];                                \
            status = SUCCESS;                                  \
        }                                                      \
        pthread_mutex_unlock(&lock);                           \
        return status;                                         \
    } while (0)

API CUresult cuStreamCreate(struct stream **stream, unsigned flags) {
    ENTER();
    CURRENT();
    (void)flags;
    MAKE(streams, stream);
}

API CUresult cuStreamDestroy_v2(struct stream *stream) {
    ENTER();
    CURRENT();
    if (!stream->made) return INVALID_VALUE;
    carry_out(stream, stream->queued);
    stream->made = 0;
    return SUCCESS;
}

API CUresult cuEventCreate(struct event **event, unsigned flags) {
    ENTER();
    CURRENT();
    (void)flags;
    MAKE(events, event);
}

API CUresult cuEventDestroy_v2(struct event *event) {
    ENTER();
    CURRENT();
    if (!event->made) return INVALID_VALUE;
    event->made = 0;
    return SUCCESS;
}

API CUresult cuEventRecord(struct event *event, struct stream *stream) {
    ENTER();
    CURRENT();
    if (!event->made || !stream || !stream->made) return INVALID_VALUE;
    event->stream = stream;
    event->after = stream->queued;
    return SUCCESS;
}

API CUresult cuEventSynchronize(struct event *event) {
    ENTER();
    CURRENT();
    if (!event->made) return INVALID_VALUE;
    if (event->stream) carry_out(event->stream, event->after);
    return SUCCESS;
}

API CUresult cuMemHostAlloc(void **at, size_t len, unsigned flags) {
    ENTER();
    CURRENT();
    (void)flags;
    CUresult status = OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < HANDLES_MAX && status; i++) {
        if (pinned[i].bytes) continue;
        if (!(pinned[i].bytes = malloc(len))) break;
        memset(pinned[i].bytes, 0x5A, len);
        pinned[i].len = len;
        *at = pinned[i].bytes;
        status = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

API CUresult cuMemFreeHost(void *at) {
    ENTER();
    CURRENT();
    CUresult status = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < HANDLES_MAX && status; i++) {
        if (!pinned[i].bytes || pinned[i].bytes != at) continue;
        free(at);
        pinned[i].bytes = NULL;
        status = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t len, struct stream *stream) {
    ENTER();
    CURRENT();
    unsigned char *bytes = behind(to, len);
    if (!bytes || !stream || !stream->made || !is_pinned(from, len)) return INVALID_VALUE;
    return enqueue(stream, bytes, from, len);
}

API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t len, struct stream *stream) {
    ENTER();
    CURRENT();
    unsigned char *bytes = behind(from, len);
    if (!bytes || !stream || !stream->made || !is_pinned(to, len)) return INVALID_VALUE;
    return enqueue(stream, to, bytes, len);
}
