/* Times a compiled model as the product is used: linked, in a process of its own.
   main THREADS SECONDS PREFIX INPUT.bin...: writes the first outputs to PREFIX.K.bin, and prints JSON.
   `call.h` names the model: MODEL(), RUN(in, out, workspace, pool), POOL(threads). */
#define _POSIX_C_SOURCE 200112L
#include "call.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_RUNS = 2, MIN_RUNS = 5, MAX_RUNS = 50000, MAX_TENSORS = 64 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fail(const char *what, const char *of) {
    fprintf(stderr, "error: %s: %s\n", what, of);
    exit(1);
}

static void *memory(size_t bytes) {
    void *p = NULL;
    size_t size = (bytes + 63) / 64 * 64 + 64;
    if (posix_memalign(&p, 64, size)) fail("no memory", "");
    memset(p, 0, size);
    return p;
}

int main(int argc, char **argv) {
    const tinsmith_model *model = MODEL();
    if (argc != 4 + (int)model->n_inputs) fail("usage", "main THREADS SECONDS PREFIX INPUT.bin...");
    if (model->n_inputs > MAX_TENSORS || model->n_outputs > MAX_TENSORS) fail("too many tensors", model->name);
    int threads = atoi(argv[1]);
    double seconds = atof(argv[2]);
    void *in[MAX_TENSORS], *out[MAX_TENSORS];
    for (uint32_t i = 0; i < model->n_inputs; i++) {
        FILE *f = fopen(argv[4 + i], "rb");
        in[i] = memory(model->inputs[i].bytes);
        if (!f || fread(in[i], 1, model->inputs[i].bytes, f) != model->inputs[i].bytes) fail("cannot be read", argv[4 + i]);
        fclose(f);
    }
    for (uint32_t i = 0; i < model->n_outputs; i++) out[i] = memory(model->outputs[i].bytes);
    void *workspace = memory(model->workspace_bytes);
    tinsmith_pool *pool = threads > 1 ? POOL(threads) : NULL;
    tinsmith_status status = RUN(in, out, workspace, pool);
    if (status != TINSMITH_OK) fail("the run failed", tinsmith_status_text(status));
    for (uint32_t i = 0; i < model->n_outputs; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s.%u.bin", argv[3], i);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(out[i], 1, model->outputs[i].bytes, f) != model->outputs[i].bytes || fclose(f)) fail("cannot be written", path);
    }
    for (int i = 0; i < WARM_RUNS; i++) RUN(in, out, workspace, pool);
    static double times[MAX_RUNS];
    int n = 0;
    for (double begin = now_ms(); n < MAX_RUNS && (n < MIN_RUNS || now_ms() - begin < seconds * 1e3); n++) {
        double start = now_ms();
        RUN(in, out, workspace, pool);
        times[n] = now_ms() - start;
    }
    qsort(times, n, sizeof *times, ascending);
    printf("{\"median_ms\": %.9g, \"min_ms\": %.9g, \"runs\": %d}\n", times[n / 2], times[0], n);
    return 0;
}
