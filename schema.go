package ccci

import _ "embed"

// ResultSchemaJSON is the published JSON Schema of [Result].
//
//go:embed result.schema.json
var ResultSchemaJSON []byte
