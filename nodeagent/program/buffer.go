package program

// Buffer keeps the first bytes written to it.
type Buffer struct {
	max       int
	data      []byte
	truncated bool
}

// NewBuffer keeps at most max bytes.
func NewBuffer(max int) *Buffer { return &Buffer{max: max} }

// Write never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	room := b.max - len(b.data)
	b.data = append(b.data, p[:min(room, len(p))]...)
	b.truncated = b.truncated || len(p) > room
	return len(p), nil
}

// Bytes that were kept.
func (b *Buffer) Bytes() []byte { return b.data }

// Truncated tells whether more was written.
func (b *Buffer) Truncated() bool { return b.truncated }
