package operation

// triplet is Debian's name of the architecture.
const triplet = "aarch64-linux-gnu"
