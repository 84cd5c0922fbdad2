// Package ldso speaks the formats of glibc's dynamic linker: its cache, its configuration
// files, and what it looks at in a shared library. It opens nothing and knows no paths.
//
// Everything that it reads may be hostile. It takes a bounded amount of memory whatever a
// length or an offset claims, and what it does not understand is no library, never a panic.
package ldso

// Entry of the cache: a program that needs Name finds it at Path.
type Entry struct {
	Name  string
	Path  string
	Flags Flags
	// Hwcaps is a kind of processor, as the folder below glibc-hwcaps is called. Linkers
	// since glibc 2.33 prefer the best of these that the machine is; empty: any.
	Hwcaps string
}

// Flags say for which programs a library is. The linker of one kind looks at its own only.
type Flags uint32

// The kinds of glibc's libraries that machines of ours can run.
const (
	I386    Flags = 0x0003
	X86_64  Flags = 0x0303
	X32     Flags = 0x0803
	AArch64 Flags = 0x0a03
)

// Library is what the cache wants to know of a file.
type Library struct {
	Soname string // empty: it says none
	Flags  Flags
}
