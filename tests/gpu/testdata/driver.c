// Stands in for libcuda.so.1 where cuda-check itself is tested: it does on the processor what
// the kernels are to do. Built with -DWRONG it is off by one in the last element.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t pointer;
static int spinning;

int cuInit(unsigned flags) { return (int)flags; }
int cuDeviceGetCount(int *n) { return *n = 2, 0; }
int cuDeviceGet(int *d, int i) { return *d = i, 0; }
int cuDeviceGetUuid(void *uuid, int d) { return memset(uuid, 0xa0 + d, 16), 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { return *c = &spinning, d; }
int cuCtxSetCurrent(void *c) { return c != &spinning; }
int cuModuleLoadData(void **m, const void *text) { return *m = (void *)text, 0; }
int cuMemAlloc_v2(pointer *p, size_t n) { return *p = (pointer)malloc(n), *p == 0; }
int cuMemcpyHtoD_v2(pointer to, const void *from, size_t n) { return memcpy((void *)to, from, n), 0; }
int cuMemcpyDtoH_v2(void *to, pointer from, size_t n) { return memcpy(to, (void *)from, n), 0; }
int cuMemsetD8_v2(pointer p, unsigned char v, size_t n) { return memset((void *)p, v, n), 0; }
int cuStreamQuery(void *stream) { return stream ? 1 : spinning ? 600 : 0; }
int cuGetErrorString(int s, const char **why) { return *why = "of the stand-in", s < 0; }

int cuCtxSynchronize(void) {
	while (spinning)
		pause();
	return 0;
}

int cuModuleGetFunction(void **f, void *module, const char *name) {
	char entry[64];
	snprintf(entry, sizeof entry, ".visible .entry %s(", name);
	return *f = (void *)name, strstr(module, entry) ? 0 : 500;
}

int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
		unsigned shared, void *stream, void **arguments, void **extra) {
	if (gz != 1 || bz != 1 || shared || stream || extra)
		return 1;
	if (!strcmp(f, "spin"))
		return spinning = 1, 0;
	float *a = *(float **)arguments[0], *b = *(float **)arguments[1], *c = *(float **)arguments[2];
	unsigned n = *(unsigned *)arguments[3], last = n - 1;
	if (!strcmp(f, "add")) {
		for (unsigned i = 0; i < n && i < gx * bx; i++)
			c[i] = a[i] + b[i];
	} else {
		last = n * n - 1;
		for (unsigned i = 0; i < n && i < gy * by; i++)
			for (unsigned j = 0; j < n && j < gx * bx; j++) {
				float sum = 0;
				for (unsigned k = 0; k < n; k++)
					sum += a[i * n + k] * b[k * n + j];
				c[i * n + j] = sum;
			}
	}
#ifdef WRONG
	for (unsigned i = 0; i <= last; i += 7)
		c[i] += 1;
#endif
	return (int)(last - last);
}
