/* A stand-in for NVIDIA's management library: what NVML_CASE names is what the driver tells. */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, LOST = 15, DRIVER_NOT_LOADED = 9, UNKNOWN = 999 };
typedef struct { unsigned long long total, free, used; } memory_t;

static int is(const char *name) {
    const char *found = getenv("NVML_CASE");
    return found != NULL && strcmp(found, name) == 0;
}

int nvmlInitWithFlags(unsigned flags) { return is("driver") ? DRIVER_NOT_LOADED : OK; }
int nvmlShutdown(void) { return is("shutdown") ? UNKNOWN : OK; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = is("none") ? 0 : 2;
    return is("count") ? UNKNOWN : OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(size_t)(index + 1);
    return is("lost") && index == 1 ? LOST : OK;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    strncpy(name, (size_t)handle == 1 ? "NVIDIA H100 80GB HBM3" : "NVIDIA Unheard-of 9000", length);
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    memory->total = 81559ULL << 20;
    memory->free = memory->total - (1ULL << 30) * (size_t)handle;
    memory->used = memory->total - memory->free;
    return is("memory") && (size_t)handle == 2 ? NOT_SUPPORTED : OK;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = 9;
    *minor = 0;
    return is("capability") ? NOT_SUPPORTED : OK;
}

const char *nvmlErrorString(int code) {
    return code == LOST ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported"
         : code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Unknown Error";
}
