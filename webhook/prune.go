package webhook

import "bytes"

// prunes tells which members of a JSON object are replaced by null (nil) and which are looked into. A list is
// looked into element by element.
type prunes map[string]prunes

// bulky are the members of a review that no decision reads: environment variables, probes and the like are
// most of many pods, and decoding them would be most of the time of an answer. It names what is left
// out, not what is read: every other field arrives, also one that a decision will read only tomorrow.
// That it decides as on the whole pod is tested.
var bulky, bulkyWithoutEnv = reviewPrunes(true), reviewPrunes(false)

func reviewPrunes(env bool) prunes {
	container := prunes{
		"envFrom": nil, "ports": nil, "resources": nil, "lifecycle": nil,
		"livenessProbe": nil, "readinessProbe": nil, "startupProbe": nil,
	}
	if env {
		container["env"] = nil
	}
	return prunes{"request": {
		"resource": nil, "requestKind": nil, "requestResource": nil, "userInfo": nil, "oldObject": nil, "options": nil,
		"object": {
			"metadata": {"managedFields": nil},
			"spec": {
				"containers": container, "initContainers": container,
				"affinity": nil, "tolerations": nil, "topologySpreadConstraints": nil,
			},
			"status": nil,
		},
	}}
}

// istioNames begins the names of the containers that Istio's injector adds: how they capture traffic stands
// in their environment, so where one may be, environments stay.
var istioNames = []byte(`"istio-`)

// null takes a value's place; what is no longer than it stays.
const null = "null"

// prune returns the review without its bulk, in the same memory. It is for valid JSON; of what is not,
// the decoder after it finds the error, except in what was cut out.
func prune(body []byte) []byte {
	cut := bulky
	if bytes.Contains(body, istioNames) {
		cut = bulkyWithoutEnv
	}
	p := pruner{in: body, out: body[:0]}
	p.value(cut)
	return append(p.out, p.in[p.copied:]...)
}

// pruner walks over a JSON text once. It writes behind where it reads.
type pruner struct {
	in, out []byte
	at      int // the next byte of in
	copied  int // the bytes of in before it are in out, or were cut out
}

// value passes one value, and cuts inside it. It does not go deeper than prunes do, whatever the text.
func (p *pruner) value(cut prunes) {
	if p.next() != '[' {
		p.element(cut)
		return
	}
	p.at++
	for c := p.next(); c != ']' && c != 0; c = p.next() {
		p.element(cut)
		if p.next() != ',' {
			break
		}
		p.at++
	}
	p.at++
}

func (p *pruner) element(cut prunes) {
	if p.next() == '{' {
		p.members(cut)
	} else {
		p.skip()
	}
}

// members passes an object.
func (p *pruner) members(cut prunes) {
	for p.at++; p.next() == '"'; {
		key := p.at
		p.skipString()
		name := p.in[key:p.at]
		if p.next() != ':' {
			return
		}
		p.at++
		p.next()
		switch inside, known := cut[string(bytes.Trim(name, `"`))]; {
		case !known:
			p.skip()
		case inside != nil:
			p.value(inside)
		default:
			start := p.at
			p.skip()
			if p.at-start > len(null) {
				p.out = append(append(p.out, p.in[p.copied:start]...), null...)
				p.copied = p.at
			}
		}
		if p.next() != ',' {
			break
		}
		p.at++
		p.next()
	}
	p.at++
}

// next passes white space and returns the byte after it, 0 at the end.
func (p *pruner) next() byte {
	for ; p.at < len(p.in); p.at++ {
		switch c := p.in[p.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// skip passes one value.
func (p *pruner) skip() {
	for depth := 0; p.at < len(p.in); {
		switch p.in[p.at] {
		case '"':
			p.skipString()
		case '{', '[':
			depth++
			p.at++
			continue
		case '}', ']':
			if depth == 0 {
				return // of what is around an empty value
			}
			depth--
			p.at++
		case ',':
			if depth == 0 {
				return
			}
			p.at++
			continue
		default: // a part of a number, a word, white space, a colon
			p.at++
			if depth == 0 {
				continue
			}
		}
		if depth == 0 {
			return
		}
	}
}

// skipString passes a string.
func (p *pruner) skipString() {
	p.at++
	for p.at < len(p.in) {
		n := bytes.IndexByte(p.in[p.at:], '"')
		if n < 0 {
			p.at = len(p.in)
			return
		}
		end := p.at + n
		escapes := 0
		for i := end - 1; i >= p.at && p.in[i] == '\\'; i-- {
			escapes++
		}
		p.at = end + 1
		if escapes%2 == 0 {
			return
		}
	}
}
