package socketproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/recipe-maintainers/cc-ci/internal/traefik"
)

// objectLimit bounds one object of Docker's answer, in bytes. Swarm itself takes none above 1.5 MiB,
// and writes a service at most twice.
const objectLimit = 16 << 20

// labelLimit bounds the labels of one service that are handed on, in bytes.
const labelLimit = 64 << 10

// censor takes out of an answer what describes containers. The answer is handled one object
// at a time, so that its size is no matter: many large services of one app stop no route
// of another one.
func censor(res *http.Response, log *slog.Logger) error {
	if res.StatusCode != http.StatusOK || !described.MatchString(res.Request.URL.Path) || res.Request.Method == http.MethodHead {
		return nil
	}
	from := res.Body
	r, w := io.Pipe()
	res.Body, res.ContentLength = r, -1
	res.Header.Del("Content-Length")
	go func() {
		defer from.Close()
		err := copyList(w, from, log)
		if errors.Is(err, io.EOF) { // to a pipe it would say that all is there
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, io.ErrClosedPipe) { // whoever asked has gone
			log.Warn("reading Docker's answer", "path", res.Request.URL.Path, "error", err)
		}
		_ = w.CloseWithError(err) // an answer that ends early is none: Traefik asks again
	}()
	return nil
}

// copyList copies a JSON list object by object, each without what describes containers.
func copyList(to io.Writer, from io.Reader, log *slog.Logger) error {
	bounded := &boundedReader{from: from, left: objectLimit}
	in := json.NewDecoder(bounded)
	if start, err := in.Token(); err != nil || start != json.Delim('[') {
		return errors.Join(err, errors.New("it is no list"))
	}
	separator := "["
	for in.More() {
		bounded.left = objectLimit
		var object map[string]json.RawMessage
		if err := in.Decode(&object); err != nil {
			return err
		}
		if err := bare(object); err != nil {
			log.Warn("left out", "object", clip(object["ID"]), "error", err)
			continue
		}
		text, err := json.Marshal(object)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(to, separator+string(text)); err != nil {
			return err
		}
		separator = ","
	}
	if _, err := in.Token(); err != nil {
		return err
	}
	_, err := io.WriteString(to, strings.TrimSuffix(separator, ",")+"]\n")
	return err
}

// bare leaves of a service or a task what Traefik reads.
func bare(object map[string]json.RawMessage) error {
	delete(object, "PreviousSpec")
	return strip(object, "Spec")
}

// strip takes ContainerSpec, and labels that are none of Traefik's, out of a specification.
func strip(object map[string]json.RawMessage, key string) error {
	if object[key] == nil {
		return nil
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(object[key], &spec); err != nil || spec == nil {
		return err
	}
	if err := strip(spec, "TaskTemplate"); err != nil {
		return err
	}
	delete(spec, "ContainerSpec")
	if spec["Labels"] != nil {
		var labels map[string]string
		if err := json.Unmarshal(spec["Labels"], &labels); err != nil {
			return err
		}
		size := 0
		for name, value := range labels {
			if !traefik.Reads(name) {
				delete(labels, name)
				continue
			}
			size += len(name) + len(value)
		}
		if size > labelLimit {
			return fmt.Errorf("its labels have %d bytes, and %d are handed on", size, labelLimit)
		}
		// Without one of its labels a service may be open that asked for a password, so all of it is left out.
		if err := traefik.CheckLabels(labels); err != nil {
			return fmt.Errorf("Traefik may fail for all apps at %w", err)
		}
		spec["Labels"] = marshal(labels)
	}
	object[key] = marshal(spec)
	return nil
}

// marshal writes maps of strings and of JSON, which cannot fail.
func marshal(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func clip(text []byte) string { return string(text[:min(len(text), 64)]) }

// boundedReader fails once more than left bytes are asked of it.
type boundedReader struct {
	from io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("one object has more than %d bytes", objectLimit)
	}
	n, err := b.from.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
