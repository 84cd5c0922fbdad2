package sandbox

// AskCrashed is the type of a payload of the Task API's Update, which containerd hands on
// unread: with it brigd asks a shim, until the task is deleted, whether a program ended
// because the sandbox's kernel died, and not by itself, a signal, brigd or want of memory.
// A program's status does not tell: it is 137 in each of these cases. No error is yes; an
// ErrFailedPrecondition no. A shim that does not know the type refuses it as invalid.
const AskCrashed = "io.containerd.brig.v1/Crashed"
