package server

import (
	"net/http"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"

	"brig/nodeagent/admission"
	"brig/nodeagent/socket"
)

// maxCalls bounds the calls under way, of which one uid has half at most.
const maxCalls = 16384

// admitted answers no call of a caller who is refused, and none beyond what one may have
// under way. The connection of the former ends with the answer.
func (s *Server) admitted(next http.Handler, writer *connect.ErrorWriter) http.Handler {
	calls := admission.New("calls under way", "the node", 0, maxCalls)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := socket.From(r.Context())
		if c.Refused != nil {
			w.Header().Set("Connection", "close")
			s.refuse(w, r, writer, c.Refused)
			return
		}
		leave, err := calls.Enter(c.UID)
		if err != nil {
			s.refuse(w, r, writer, err)
			return
		}
		defer leave()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, writer *connect.ErrorWriter, err error) {
	err = failure(err)
	procedure := "other"
	if protocol[r.URL.Path] {
		procedure = r.URL.Path
	}
	code := connect.CodeOf(err).String()
	s.called(procedure, code)
	audit(r.Context(), s.log, procedure, "", code)
	_ = writer.Write(w, r, err) // who does not wait for it does not get it
}

// local serves what is for callers of this machine alone.
func (s *Server) local(next http.Handler, writer *connect.ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := socket.From(r.Context()); !c.Local() {
			s.refuse(w, r, writer, errdefs.ErrPermissionDenied.WithMessage("figures of the node are served on its socket alone"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// malformed is the code, in the audit and in the figures, of what was no request: other
// fields, half a message, another method. Its sender has a code of the protocol's.
const malformed = "malformed"

func (s *Server) misunderstood(r *http.Request) {
	s.called(r.URL.Path, malformed)
	audit(r.Context(), s.log, r.URL.Path, "", malformed)
}
