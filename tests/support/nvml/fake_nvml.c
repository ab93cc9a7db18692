/* A libnvidia-ml.so.1 that says what a script tells it to: lines `KEY VALUE` of the file named by FAKE_NVML, read anew
 * at every call, so that a test can change its mind. Keys: `count`, `driver`, `D.uuid` and so on for device D (`0`, or
 * `0.m1` for the second MIG instance of it), `0.instances N`, `xid 0:79`; and for every function `fail.FUNCTION CODE`,
 * `hang.FUNCTION 1`, `crash.FUNCTION 1`. Only the real binding calls this: signatures are those of NVIDIA's nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
typedef struct { char name[16]; } device;
enum { OK = 0, NO_SUPPORT = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10 };

static device devices[64];
static char value[4096];
static long xids_told = 0;

static const char *look(const char *prefix, const char *key) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char wanted[256], line[4096];
    const char *found = NULL;
    snprintf(wanted, sizeof wanted, "%s%s ", prefix, key);
    while (file && !found && fgets(line, sizeof line, file))
        if (!strncmp(line, wanted, strlen(wanted))) {
            snprintf(value, sizeof value, "%s", line + strlen(wanted));
            value[strcspn(value, "\n")] = 0;
            found = value;
        }
    if (file) fclose(file);
    return found;
}

static int begin(const char *function) {
    const char *code;
    if (look("hang.", function)) for (;;) pause();
    if (look("crash.", function)) abort();
    return (code = look("fail.", function)) ? atoi(code) : OK;
}

static const char *of(device *d, const char *key) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.", d->name);
    return look(prefix, key);
}

#define BEGIN(function) do { int code_ = begin(function); if (code_) return code_; } while (0)
#define TEXT(function, key) \
    BEGIN(function); const char *said = of(d, key); if (!said) return NO_SUPPORT; \
    snprintf(text, length, "%s", said); return OK
#define NUMBER(function, key, type) \
    BEGIN(function); const char *said = of(d, key); if (!said) return NO_SUPPORT; \
    *out = (type)strtoull(said, NULL, 0); return OK

int nvmlInitWithFlags(unsigned flags) { (void)flags; BEGIN("nvmlInitWithFlags"); return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "scripted error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    BEGIN("nvmlSystemGetDriverVersion");
    snprintf(text, length, "%s", look("", "driver") ? value : "550.54.15");
    return OK;
}
int nvmlDeviceGetCount_v2(unsigned *out) {
    BEGIN("nvmlDeviceGetCount_v2");
    *out = look("", "count") ? (unsigned)strtoull(value, NULL, 0) : 0;
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    BEGIN("nvmlDeviceGetHandleByIndex_v2");
    if (index >= 48) return NOT_FOUND;
    snprintf(devices[index].name, sizeof devices[index].name, "%u", index);
    *out = &devices[index];
    return OK;
}
int nvmlDeviceGetUUID(device *d, char *text, unsigned length) { TEXT("nvmlDeviceGetUUID", "uuid"); }
int nvmlDeviceGetName(device *d, char *text, unsigned length) { TEXT("nvmlDeviceGetName", "name"); }
int nvmlDeviceGetMinorNumber(device *d, unsigned *out) { NUMBER("nvmlDeviceGetMinorNumber", "minor", unsigned); }
int nvmlDeviceGetMemoryInfo(device *d, u64 *memory) {
    BEGIN("nvmlDeviceGetMemoryInfo");
    memory[0] = of(d, "total") ? strtoull(value, NULL, 0) : 0;
    memory[1] = of(d, "free") ? strtoull(value, NULL, 0) : 0;
    memory[2] = memory[0] - memory[1];
    return OK;
}
int nvmlDeviceGetUtilizationRates(device *d, unsigned *out) { NUMBER("nvmlDeviceGetUtilizationRates", "utilisation", unsigned); }
int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *out) {
    (void)sensor; NUMBER("nvmlDeviceGetTemperature", "temperature", unsigned);
}
int nvmlDeviceGetTotalEccErrors(device *d, int kind, int counter, u64 *out) {
    (void)kind; (void)counter; NUMBER("nvmlDeviceGetTotalEccErrors", "ecc", u64);
}
int nvmlDeviceGetComputeMode(device *d, int *out) { NUMBER("nvmlDeviceGetComputeMode", "mode", int); }
int nvmlDeviceGetGpuInstanceId(device *d, unsigned *out) { NUMBER("nvmlDeviceGetGpuInstanceId", "gi", unsigned); }
int nvmlDeviceGetComputeInstanceId(device *d, unsigned *out) { NUMBER("nvmlDeviceGetComputeInstanceId", "ci", unsigned); }

struct process { unsigned pid; u64 memory; unsigned gi, ci; };
int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *count, struct process *out) {
    BEGIN("nvmlDeviceGetComputeRunningProcesses_v3");
    const char *said = of(d, "processes"); /* `pid:bytes,pid:bytes`; or `#N`: claims N of them */
    unsigned room = *count, found = 0;
    if (!said) { *count = 0; return OK; }
    if (said[0] == '#') { *count = (unsigned)strtoull(said + 1, NULL, 0); return TOO_SMALL; }
    for (char *item = strtok(value, ","); item; item = strtok(NULL, ","), found++)
        if (out && found < room) {
            char *colon = strchr(item, ':');
            out[found] = (struct process){(unsigned)atoi(item), colon ? strtoull(colon + 1, NULL, 0) : ~0ULL, ~0u, ~0u};
        }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}

int nvmlDeviceGetMigMode(device *d, unsigned *now, unsigned *pending) {
    BEGIN("nvmlDeviceGetMigMode");
    if (!of(d, "instances")) return NO_SUPPORT;
    *now = *pending = 1;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *out) { NUMBER("nvmlDeviceGetMaxMigDeviceCount", "instances", unsigned); }
int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **out) {
    BEGIN("nvmlDeviceGetMigDeviceHandleByIndex");
    if (index >= 8) return NOT_FOUND;
    device *part = &devices[48 + index];
    snprintf(part->name, sizeof part->name, "%.4s.m%u", d->name, index);
    if (!of(part, "uuid")) return NOT_FOUND;
    *out = part;
    return OK;
}

int nvmlEventSetCreate(void **out) { BEGIN("nvmlEventSetCreate"); *out = &devices; return OK; }
int nvmlDeviceRegisterEvents(device *d, u64 types, void *set) {
    (void)d; (void)types; (void)set; BEGIN("nvmlDeviceRegisterEvents"); return OK;
}
struct event { device *d; u64 type, data; unsigned gi, ci; };
int nvmlEventSetWait_v2(void *set, struct event *out, unsigned timeout_ms) {
    (void)set;
    BEGIN("nvmlEventSetWait_v2");
    const char *said = look("", "xid"); /* `DEVICE:NUMBER`, told once */
    if (!said || xids_told++) { usleep(timeout_ms * 1000); return TIMEOUT; }
    unsigned index = (unsigned)atoi(said);
    snprintf(devices[index].name, sizeof devices[index].name, "%u", index);
    *out = (struct event){&devices[index], 8, strtoull(strchr(said, ':') + 1, NULL, 0), ~0u, ~0u};
    return OK;
}
