package beneath

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// answer is what a command prints: one object in JSON.
type answer struct {
	Code    ccci.Code `json:",omitempty"` // "": it was done
	Message string    `json:",omitempty"`
	Data    []byte    `json:",omitempty"`
}

// MostPut is the largest file, in bytes, that the command "put" takes.
const MostPut = 16 << 20

// Run carries out "get DIR NAME LIMIT" or "put DIR NAME", which reads the file from in, and prints the
// answer for [Read] to out. Its error says that nothing could be answered.
func Run(args []string, in io.Reader, out io.Writer) error {
	var a answer
	var err error
	switch {
	case len(args) == 4 && args[0] == "get":
		var limit int64
		if limit, err = strconv.ParseInt(args[3], 10, 64); err == nil {
			a.Data, err = Get(args[1], args[2], limit)
		}
	case len(args) == 3 && args[0] == "put":
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(in, MostPut+1)); err == nil && len(data) > MostPut {
			err = ccci.Errorf(ccci.CodeInvalid, "%s has more than %d bytes", args[2], MostPut)
		}
		if err == nil {
			err = Put(args[1], args[2], data)
		}
	default:
		return fmt.Errorf("get needs DIR, NAME and LIMIT, put DIR and NAME, not %q", args)
	}
	if err != nil {
		a = answer{Code: ccci.CodeOf(err), Message: err.Error()}
	}
	return json.NewEncoder(out).Encode(a)
}

// Read returns what [Run] has answered.
func Read(printed []byte) ([]byte, error) {
	var a answer
	if err := json.Unmarshal(printed, &a); err != nil {
		return nil, fmt.Errorf("reading the answer of the helper container: %w", err)
	}
	if a.Code != "" {
		return nil, &ccci.Error{Code: a.Code, Message: a.Message, Err: errors.New(a.Message)}
	}
	return a.Data, nil
}
