package secretfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// The types that sops distinguishes.
const (
	typeText    = "str"
	typeInt     = "int"
	typeFloat   = "float"
	typeBool    = "bool"
	typeTime    = "time"
	typeBytes   = "bytes"
	typeComment = "comment"
)

// value is a scalar as sops sees it: text is what is encrypted and what the
// file's MAC covers.
type value struct{ kind, text string }

// valueOf returns the value of a scalar node in plain text. A null is none: sops
// leaves it as it is.
func valueOf(n *yaml.Node) (v value, null bool, err error) {
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return value{}, true, nil
	case "!!str":
		return value{typeText, n.Value}, false, nil
	case "!!int":
		var i int
		if err := n.Decode(&i); err != nil {
			return value{}, false, errors.New("this number is too large; put it in quotes")
		}
		return value{typeInt, strconv.Itoa(i)}, false, nil
	case "!!float":
		var f float64
		if err := n.Decode(&f); err != nil {
			return value{}, false, errors.New("this is no number; put it in quotes")
		}
		return value{typeFloat, strconv.FormatFloat(f, 'f', -1, 64)}, false, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return value{}, false, errors.New("write true or false, or put it in quotes")
		}
		return boolValue(b), false, nil
	case "!!timestamp":
		var t time.Time
		if err := n.Decode(&t); err != nil {
			return value{}, false, errors.New("this is no date; put it in quotes")
		}
		text, err := t.MarshalText()
		return value{typeTime, string(text)}, false, err
	default:
		return value{}, false, fmt.Errorf("the type %s cannot be encrypted; put the value in quotes", tag)
	}
}

// storable tells why a scalar that a person wrote cannot be stored as it is.
func storable(n *yaml.Node) error {
	v, _, err := valueOf(n)
	if err != nil || v.kind != typeInt && v.kind != typeFloat || v.text == n.Value {
		return err
	}
	var plain yaml.Node
	if _, err := v.apply(&plain); err == nil && plain.Value == n.Value {
		return nil
	}
	return errors.New("this would be stored as another number than it looks; put it in quotes") // 0123, 1.50
}

func boolValue(b bool) value {
	if b {
		return value{typeBool, "True"}
	}
	return value{typeBool, "False"}
}

// apply writes the value into a scalar node as plain YAML, and returns it as the
// MAC covers it.
func (v value) apply(n *yaml.Node) (value, error) {
	n.Style = 0
	switch v.kind {
	case typeText, typeBytes:
		n.SetString(v.text)
		return v, nil
	case typeInt:
		i, err := strconv.Atoi(v.text)
		n.Tag, n.Value = "!!int", strconv.Itoa(i)
		return value{v.kind, n.Value}, err
	case typeFloat:
		f, err := strconv.ParseFloat(v.text, 64)
		n.Tag, n.Value = "!!float", strconv.FormatFloat(f, 'g', -1, 64)
		return value{v.kind, strconv.FormatFloat(f, 'f', -1, 64)}, err
	case typeBool:
		b, err := strconv.ParseBool(v.text)
		n.Tag, n.Value = "!!bool", strconv.FormatBool(b)
		return boolValue(b), err
	case typeTime:
		n.Tag, n.Value = "!!timestamp", v.text
		return v, nil
	}
	return value{}, fmt.Errorf("the type %q is unknown", v.kind)
}

const (
	keySize   = 32 // of a data key, in bytes: AES-256
	nonceSize = 32 // of what sops writes, in bytes
)

// sealed matches an encrypted value. What stands for data may be empty nowhere: sops
// leaves an empty text as it is.
var sealed = regexp.MustCompile(`^ENC\[AES256_GCM,data:([A-Za-z0-9+/=]+),iv:([A-Za-z0-9+/=]+),tag:([A-Za-z0-9+/=]+),type:([a-z]+)\]$`)

func isSealed(text string) bool { return strings.HasPrefix(text, "ENC[AES256_GCM,") }

var errNotSealed = errors.New("it is not encrypted")

// open decrypts a value. where is what sops binds it to: the path of its key.
func open(key []byte, text, where string) (value, error) {
	m := sealed.FindStringSubmatch(text)
	if m == nil {
		if isSealed(text) {
			return value{}, errors.New("what is there is no whole encrypted value")
		}
		return value{}, errNotSealed
	}
	var parts [3][]byte
	for i := range parts {
		var err error
		if parts[i], err = base64.StdEncoding.DecodeString(m[i+1]); err != nil {
			return value{}, errors.New("what is there is no whole encrypted value")
		}
	}
	data, nonce, tag := parts[0], parts[1], parts[2]
	block, err := aes.NewCipher(key)
	if err != nil {
		return value{}, err
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(nonce))
	if err != nil {
		return value{}, err
	}
	plain, err := gcm.Open(nil, nonce, append(data, tag...), []byte(where))
	if err != nil {
		return value{}, errors.New("it was changed, or belongs to another key or another file")
	}
	return value{m[4], string(plain)}, nil
}

// seal encrypts a value with a nonce of its own. An empty text stays empty.
func seal(key []byte, v value, where string) (string, error) {
	if v.text == "" {
		return "", nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, nonceSize)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails
	out := gcm.Seal(nil, nonce, []byte(v.text), []byte(where))
	cut := len(out) - gcm.Overhead()
	code := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("ENC[AES256_GCM,data:%s,iv:%s,tag:%s,type:%s]", code(out[:cut]), code(nonce), code(out[cut:]), v.kind), nil
}
