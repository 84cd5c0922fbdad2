package operation

// triplet is Debian's name of the architecture.
const triplet = "x86_64-linux-gnu"
