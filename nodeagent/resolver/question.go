package resolver

import (
	"strings"

	"github.com/miekg/dns"
)

// judge returns RcodeSuccess for a question that is answered or forwarded.
func judge(q *dns.Msg) int {
	switch {
	case q.Response || q.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case len(q.Question) != 1 || len(q.Answer) > 0 || len(q.Ns) > 0:
		return dns.RcodeFormatError
	}
	question := q.Question[0]
	if question.Qclass != dns.ClassINET {
		return dns.RcodeRefused
	}
	switch question.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB, dns.TypeANY, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

// ownAnswer answers for brig.internal, of which nothing leaves the node; else nil.
func ownAnswer(q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	name := strings.ToLower(dns.Fqdn(question.Name))
	if !dns.IsSubDomain("brig.internal.", name) {
		return nil
	}
	if name != Name {
		return failure(q, dns.RcodeNameError)
	}
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	if question.Qtype == dns.TypeA {
		header := dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: Address.AsSlice()}}
	}
	return m
}

// empty says that the name has no records of the type.
func empty(q *dns.Msg) *dns.Msg { return failure(q, dns.RcodeSuccess) }

func failure(q *dns.Msg, code int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, code)
	m.RecursionAvailable = true
	return m
}

// nameOf is what is asked for, for whom a refusal is shown to.
func nameOf(q *dns.Msg) string {
	if len(q.Question) == 0 {
		return ""
	}
	if host, ok := Hostname(q.Question[0].Name); ok {
		return host
	}
	return q.Question[0].Name
}
