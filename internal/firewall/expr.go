package firewall

import (
	"net"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

const (
	familyIPv4 = 2  // NFPROTO_IPV4
	familyIPv6 = 10 // NFPROTO_IPV6

	statusRedirected = 1 << 5 // IPS_DST_NAT

	register = 1
	nameSize = 16 // IFNAMSIZ
)

// expressions are the rule as the kernel has it: each loads something into the register and compares.
func (r Rule) expressions() []expr.Any {
	var all []expr.Any
	add := func(more ...expr.Any) { all = append(all, more...) }
	if r.In != "" {
		add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, equal(interfaceName(r.In)))
	}
	if r.Out != "" {
		add(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, equal(interfaceName(r.Out)))
	}
	if r.Established {
		add(&expr.Ct{Key: expr.CtKeySTATE, Register: register})
		add(anyOf(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)...)
	}
	if r.Redirected {
		add(&expr.Ct{Key: expr.CtKeySTATUS, Register: register})
		add(anyOf(statusRedirected)...)
	}
	if r.To.IsValid() {
		family, offset := byte(familyIPv4), uint32(16)
		if r.To.Addr().Is6() {
			family, offset = familyIPv6, 24
		}
		size := r.To.Addr().BitLen() / 8
		add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, equal([]byte{family}))
		add(&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)})
		if !r.To.IsSingleIP() {
			add(masked(net.CIDRMask(r.To.Bits(), 8*size)))
		}
		add(equal(r.To.Masked().Addr().AsSlice()))
	}
	if r.Protocol != 0 {
		add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, equal([]byte{byte(r.Protocol)}))
	}
	switch r.Protocol {
	case TCP, UDP:
		add(&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, equal(binaryutil.BigEndian.PutUint16(r.Port)))
	case ICMPv6:
		add(&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, equal([]byte{r.Type}))
	}
	if r.Accept {
		add(&expr.Verdict{Kind: expr.VerdictAccept})
	} else {
		add(&expr.Verdict{Kind: expr.VerdictDrop})
	}
	return all
}

func equal(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value}
}

// anyOf fits when one of these bits is set.
func anyOf(bits uint32) []expr.Any {
	return []expr.Any{masked(binaryutil.NativeEndian.PutUint32(bits)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)}}
}

func masked(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

func interfaceName(name string) []byte {
	out := make([]byte, nameSize)
	copy(out[:nameSize-1], name)
	return out
}
