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

	opUpdate = 1 // NFT_DYNSET_OP_UPDATE

	rejectICMPX = 2 // NFT_REJECT_ICMPX_UNREACH
	prohibited  = 3 // NFT_REJECT_ICMPX_ADMIN_PROHIBITED

	register = 1
	nameSize = 16 // IFNAMSIZ
)

// expressions are the rule as the kernel has it: each loads something into the register and compares.
func (r Rule) expressions() []expr.Any {
	var all []expr.Any
	add := func(more ...expr.Any) { all = append(all, more...) }
	if r.Cgroup.ID != 0 {
		add(&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: r.Cgroup.Level, Register: register}, equal(binaryutil.NativeEndian.PutUint64(r.Cgroup.ID)))
	}
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
	if r.Over.Kind != "" {
		family, offset, size := byte(familyIPv4), uint32(12), uint32(4)
		if r.Over.IPv6 {
			family, offset, size = familyIPv6, 8, 16
		}
		add(&expr.Ct{Key: expr.CtKeySTATE, Register: register})
		add(anyOf(expr.CtStateBitNEW)...)
		add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, equal([]byte{family}),
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
			&expr.Dynset{SrcRegKey: register, SetName: r.Over.set(), Operation: opUpdate, Exprs: []expr.Any{r.Over.limit()}})
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
	switch {
	case r.Accept:
		add(&expr.Verdict{Kind: expr.VerdictAccept})
	case r.Refuse:
		add(&expr.Reject{Type: rejectICMPX, Code: prohibited})
	default:
		add(&expr.Verdict{Kind: expr.VerdictDrop})
	}
	return all
}

// limit fits what is beyond the bound.
func (b Bound) limit() expr.Any {
	if b.Kind == Open {
		return &expr.Connlimit{Count: MaxOpen, Flags: expr.NFT_CONNLIMIT_F_INV}
	}
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: MaxRate, Over: true, Unit: expr.LimitTimeSecond, Burst: MaxBurst}
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
