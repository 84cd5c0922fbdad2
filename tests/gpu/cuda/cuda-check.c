// cuda-check uses a GPU as CUDA programs do, with nothing but the driver: it loads
// libcuda.so.1 at run time, and the driver compiles its kernels. No toolkit is needed to
// build it, and it runs wherever a driver's libraries are.
//
//   cuda-check list              the UUID of each GPU, a line each
//   cuda-check add               adds two vectors, and looks at every sum
//   cuda-check product N TIMES   multiplies two N × N matrices TIMES times, looks at a
//                                sample of the sums, and prints GFLOP/s
//   cuda-check spin              starts a kernel that never ends, says "spinning", waits
//
// The status is 0 if all was right, 1 if a result was wrong or a call failed, and 2 if
// there is no driver.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int status;
typedef int device;
typedef void *handle;
typedef uint64_t pointer;
typedef struct { unsigned char bytes[16]; } uuid;

static status (*init)(unsigned);
static status (*count)(int *);
static status (*get)(device *, int);
static status (*identity)(uuid *, device);
static status (*retain)(handle *, device);
static status (*current)(handle);
static status (*load)(handle *, const void *);
static status (*function)(handle *, handle, const char *);
static status (*allocate)(pointer *, size_t);
static status (*in)(pointer, const void *, size_t);
static status (*out)(void *, pointer, size_t);
static status (*zero)(pointer, unsigned char, size_t);
static status (*launch)(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **);
static status (*synchronize)(void);
static status (*query)(handle);
static status (*describe)(status, const char **);

// running is CUDA's answer for a stream that has work left.
enum { running = 600 };

static const struct { void *to; const char *name; } symbols[] = {
	{&init, "cuInit"},
	{&count, "cuDeviceGetCount"},
	{&get, "cuDeviceGet"},
	{&identity, "cuDeviceGetUuid"},
	{&retain, "cuDevicePrimaryCtxRetain"},
	{&current, "cuCtxSetCurrent"},
	{&load, "cuModuleLoadData"},
	{&function, "cuModuleGetFunction"},
	{&allocate, "cuMemAlloc_v2"},
	{&in, "cuMemcpyHtoD_v2"},
	{&out, "cuMemcpyDtoH_v2"},
	{&zero, "cuMemsetD8_v2"},
	{&launch, "cuLaunchKernel"},
	{&synchronize, "cuCtxSynchronize"},
	{&query, "cuStreamQuery"},
	{&describe, "cuGetErrorString"},
};

#define HEAD ".version 6.3\n.target sm_75\n.address_size 64\n"

static const char addKernel[] = HEAD
	".visible .entry add(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u32 pn)\n"
	"{\n"
	".reg .pred %p<2>;\n.reg .b32 %r<6>;\n.reg .b64 %rd<11>;\n.reg .f32 %f<4>;\n"
	"ld.param.u64 %rd1, [pa];\n"
	"ld.param.u64 %rd2, [pb];\n"
	"ld.param.u64 %rd3, [pc];\n"
	"ld.param.u32 %r1, [pn];\n"
	"mov.u32 %r2, %ctaid.x;\n"
	"mov.u32 %r3, %ntid.x;\n"
	"mov.u32 %r4, %tid.x;\n"
	"mad.lo.s32 %r5, %r2, %r3, %r4;\n"
	"setp.ge.u32 %p1, %r5, %r1;\n"
	"@%p1 bra DONE;\n"
	"cvta.to.global.u64 %rd4, %rd1;\n"
	"cvta.to.global.u64 %rd5, %rd2;\n"
	"cvta.to.global.u64 %rd6, %rd3;\n"
	"mul.wide.u32 %rd7, %r5, 4;\n"
	"add.s64 %rd8, %rd4, %rd7;\n"
	"add.s64 %rd9, %rd5, %rd7;\n"
	"add.s64 %rd10, %rd6, %rd7;\n"
	"ld.global.f32 %f1, [%rd8];\n"
	"ld.global.f32 %f2, [%rd9];\n"
	"add.f32 %f3, %f1, %f2;\n"
	"st.global.f32 [%rd10], %f3;\n"
	"DONE:\n"
	"ret;\n"
	"}\n";

// The kernel waits for a word of memory that nobody writes.
static const char spinKernel[] = HEAD
	".visible .entry spin(.param .u64 pw)\n"
	"{\n"
	".reg .pred %p<2>;\n.reg .b32 %r<2>;\n.reg .b64 %rd<3>;\n"
	"ld.param.u64 %rd1, [pw];\n"
	"cvta.to.global.u64 %rd2, %rd1;\n"
	"AGAIN:\n"
	"ld.volatile.global.u32 %r1, [%rd2];\n"
	"setp.eq.s32 %p1, %r1, 0;\n"
	"@%p1 bra AGAIN;\n"
	"ret;\n"
	"}\n";

// STEP adds one product of the two tiles: A's is at %r12, a row to a thread; B's is at
// %r13, a column to a thread.
#define STEP(a, b) \
	"ld.shared.f32 %f1, [%r12+" #a "];\n" \
	"ld.shared.f32 %f2, [%r13+" #b "];\n" \
	"fma.rn.f32 %f3, %f1, %f2, %f3;\n"

// Tiles of 16 × 16, each loaded once for all threads of a block.
static const char productKernel[] = HEAD
	".visible .entry product(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u32 pn)\n"
	"{\n"
	".reg .pred %p<2>;\n.reg .b32 %r<22>;\n.reg .b64 %rd<14>;\n.reg .f32 %f<6>;\n"
	".shared .align 4 .b8 tileA[1024];\n"
	".shared .align 4 .b8 tileB[1024];\n"
	"ld.param.u64 %rd1, [pa];\n"
	"ld.param.u64 %rd2, [pb];\n"
	"ld.param.u64 %rd3, [pc];\n"
	"ld.param.u32 %r1, [pn];\n"
	"cvta.to.global.u64 %rd4, %rd1;\n"
	"cvta.to.global.u64 %rd5, %rd2;\n"
	"cvta.to.global.u64 %rd6, %rd3;\n"
	"mov.u32 %r2, %tid.x;\n"
	"mov.u32 %r3, %tid.y;\n"
	"mov.u32 %r4, %ctaid.x;\n"
	"mov.u32 %r5, %ctaid.y;\n"
	"mad.lo.s32 %r6, %r4, 16, %r2;\n" // column
	"mad.lo.s32 %r7, %r5, 16, %r3;\n" // row
	"mad.lo.s32 %r8, %r7, %r1, %r2;\n" // A's first element of this thread
	"mad.lo.s32 %r9, %r3, %r1, %r6;\n" // B's
	"mul.wide.u32 %rd7, %r8, 4;\n"
	"add.s64 %rd8, %rd4, %rd7;\n"
	"mul.wide.u32 %rd9, %r9, 4;\n"
	"add.s64 %rd10, %rd5, %rd9;\n"
	"mul.wide.u32 %rd11, %r1, 64;\n" // sixteen rows of B
	"mov.u32 %r10, tileA;\n"
	"mov.u32 %r11, tileB;\n"
	"shl.b32 %r14, %r3, 6;\n" // a row of a tile has 64 bytes
	"shl.b32 %r15, %r2, 2;\n"
	"add.s32 %r12, %r10, %r14;\n"
	"add.s32 %r13, %r11, %r15;\n"
	"add.s32 %r16, %r12, %r15;\n" // where this thread stores of A
	"add.s32 %r17, %r13, %r14;\n" // and of B
	"mov.f32 %f3, 0f00000000;\n"
	"mov.u32 %r18, 0;\n"
	"NEXT:\n"
	"ld.global.f32 %f4, [%rd8];\n"
	"ld.global.f32 %f5, [%rd10];\n"
	"st.shared.f32 [%r16], %f4;\n"
	"st.shared.f32 [%r17], %f5;\n"
	"bar.sync 0;\n"
	STEP(0, 0) STEP(4, 64) STEP(8, 128) STEP(12, 192)
	STEP(16, 256) STEP(20, 320) STEP(24, 384) STEP(28, 448)
	STEP(32, 512) STEP(36, 576) STEP(40, 640) STEP(44, 704)
	STEP(48, 768) STEP(52, 832) STEP(56, 896) STEP(60, 960)
	"bar.sync 0;\n"
	"add.s64 %rd8, %rd8, 64;\n"
	"add.s64 %rd10, %rd10, %rd11;\n"
	"add.s32 %r18, %r18, 16;\n"
	"setp.lt.u32 %p1, %r18, %r1;\n"
	"@%p1 bra NEXT;\n"
	"mad.lo.s32 %r19, %r7, %r1, %r6;\n"
	"mul.wide.u32 %rd12, %r19, 4;\n"
	"add.s64 %rd13, %rd6, %rd12;\n"
	"st.global.f32 [%rd13], %f3;\n"
	"ret;\n"
	"}\n";

static void check(status s, const char *what) {
	const char *why = NULL;
	if (s == 0)
		return;
	if (!describe || describe(s, &why) != 0 || !why)
		why = "unknown";
	fprintf(stderr, "cuda-check: %s: %s (%d)\n", what, why, s);
	exit(1);
}

static void driver(void) {
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	if (!library) {
		fprintf(stderr, "cuda-check: there is no driver: %s\n", dlerror());
		exit(2);
	}
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		void *symbol = dlsym(library, symbols[i].name);
		if (!symbol) {
			fprintf(stderr, "cuda-check: the driver has no %s\n", symbols[i].name);
			exit(2);
		}
		memcpy(symbols[i].to, &symbol, sizeof symbol);
	}
	check(init(0), "start CUDA");
}

static handle kernel(const char *text, const char *name) {
	device d;
	handle context, module, f;
	driver();
	check(get(&d, 0), "find a GPU");
	check(retain(&context, d), "make a context");
	check(current(context), "use the context");
	check(load(&module, text), "compile the kernel");
	check(function(&f, module, name), "find the kernel");
	return f;
}

static pointer reserve(size_t size) {
	pointer p;
	check(allocate(&p, size), "allocate the GPU's memory");
	return p;
}

static pointer copied(const float *values, size_t size) {
	pointer p = reserve(size);
	check(in(p, values, size), "copy to the GPU");
	return p;
}

static float *memory(size_t size) {
	float *p = malloc(size);
	if (!p) {
		fprintf(stderr, "cuda-check: no memory\n");
		exit(1);
	}
	return p;
}

static int list(void) {
	int n;
	driver();
	check(count(&n), "count the GPUs");
	for (int i = 0; i < n; i++) {
		device d;
		uuid u;
		check(get(&d, i), "find a GPU");
		check(identity(&u, d), "ask for a UUID");
		printf("GPU-");
		for (int b = 0; b < 16; b++)
			printf(b == 4 || b == 6 || b == 8 || b == 10 ? "-%02x" : "%02x", u.bytes[b]);
		printf("\n");
	}
	return 0;
}

static int add(void) {
	unsigned n = 1u << 20;
	size_t size = n * sizeof(float);
	float *a = memory(size), *b = memory(size), *c = memory(size);
	for (unsigned i = 0; i < n; i++)
		a[i] = (float)i, b[i] = (float)(2 * i), c[i] = -1;
	handle f = kernel(addKernel, "add");
	pointer pa = copied(a, size), pb = copied(b, size), pc = copied(c, size);
	void *arguments[] = {&pa, &pb, &pc, &n};
	check(launch(f, (n + 255) / 256, 1, 1, 256, 1, 1, 0, NULL, arguments, NULL), "start the kernel");
	check(synchronize(), "wait for the kernel");
	check(out(c, pc, size), "copy from the GPU");
	for (unsigned i = 0; i < n; i++)
		if (c[i] != (float)(3 * i)) {
			fprintf(stderr, "cuda-check: sum %u is %g, not %u\n", i, c[i], 3 * i);
			return 1;
		}
	printf("%u sums are right\n", n);
	return 0;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Small whole numbers, so that every sum below 2^24 is exact.
static float ofA(unsigned row, unsigned column) { return (float)((row + column) % 7); }
static float ofB(unsigned row, unsigned column) { return (float)((3 * row + column) % 5); }

static int right(const float *c, unsigned n) {
	for (unsigned sample = 0; sample < 256; sample++) {
		unsigned row = sample * 7919 % n, column = sample * 104729 % n;
		float want = 0;
		for (unsigned k = 0; k < n; k++)
			want += ofA(row, k) * ofB(k, column);
		if (c[(size_t)row * n + column] != want) {
			fprintf(stderr, "cuda-check: element %u, %u is %g, not %g\n", row, column, c[(size_t)row * n + column], want);
			return 0;
		}
	}
	return 1;
}

static int product(unsigned n, unsigned times) {
	size_t size = (size_t)n * n * sizeof(float);
	if (n == 0 || n % 16 != 0 || n > 16384 || times == 0) {
		fprintf(stderr, "cuda-check: want a multiple of 16 up to 16384, and how many times\n");
		return 1;
	}
	float *a = memory(size), *b = memory(size), *c = memory(size);
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < n; j++)
			a[(size_t)i * n + j] = ofA(i, j), b[(size_t)i * n + j] = ofB(i, j);
	handle f = kernel(productKernel, "product");
	pointer pa = copied(a, size), pb = copied(b, size), pc = reserve(size);
	void *arguments[] = {&pa, &pb, &pc, &n};
	double begun = 0;
	// The first three warm the clocks up. Each is waited for, as a program that needs its
	// result does, so that the way to the driver is paid every time.
	for (unsigned i = 0; i < times + 3; i++) {
		if (i == 3)
			begun = now();
		check(launch(f, n / 16, n / 16, 1, 16, 16, 1, 0, NULL, arguments, NULL), "start the kernel");
		check(synchronize(), "wait for the kernel");
	}
	double took = now() - begun;
	check(out(c, pc, size), "copy from the GPU");
	if (!right(c, n))
		return 1;
	printf("%.1f GFLOP/s\n", 2e-9 * n * n * n * times / took);
	return 0;
}

static int spin(void) {
	handle f = kernel(spinKernel, "spin");
	pointer word = reserve(4);
	check(zero(word, 0, 4), "clear the GPU's memory");
	void *arguments[] = {&word};
	check(launch(f, 1024, 1, 1, 256, 1, 1, 0, NULL, arguments, NULL), "start the kernel");
	status s = query(NULL);
	if (s != running) {
		check(s, "ask whether the kernel runs");
		fprintf(stderr, "cuda-check: the kernel has ended\n");
		return 1;
	}
	printf("spinning\n");
	fflush(stdout);
	check(synchronize(), "wait for the kernel");
	fprintf(stderr, "cuda-check: the kernel has ended\n");
	return 1;
}

int main(int argc, char **argv) {
	if (argc == 2 && !strcmp(argv[1], "list"))
		return list();
	if (argc == 2 && !strcmp(argv[1], "add"))
		return add();
	if (argc == 4 && !strcmp(argv[1], "product"))
		return product((unsigned)strtoul(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
	if (argc == 2 && !strcmp(argv[1], "spin"))
		return spin();
	fprintf(stderr, "usage: cuda-check list | add | product N TIMES | spin\n");
	return 1;
}
