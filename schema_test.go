package ccci_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(ccci.ResultSchemaJSON))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("result.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("result.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, r ccci.Result) error {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(doc)
}

// A result with every field set must fit the schema, which allows no unknown
// field: so a field that is added to the struct and not to the schema is found.
func TestResultFitsItsSchema(t *testing.T) {
	schema := compileSchema(t)
	var full ccci.Result
	fill(reflect.ValueOf(&full).Elem())
	full.Schema, full.RunID = ccci.ResultSchema, "261121-013000-a1b2c3"
	full.Trigger = ccci.TriggerSweep
	full.Options.Stages, full.Options.Retest = ccci.StageNames, full.RunID
	full.Status, full.Verdict, full.Level = ccci.StatusFailed, ccci.VerdictFailed, 3
	full.Cause.Code, full.BrokenBases[0].Cause.Code = ccci.CodeRecipe, ccci.CodeRecipe
	full.Stages[0].Name, full.Stages[0].Status = ccci.StageInstall, ccci.Fail
	full.Stages[0].Checks[0].Name, full.Stages[0].Checks[0].Status, full.Stages[0].Checks[0].Code = "install/serves", ccci.Fail, ccci.CodeRecipe
	full.Stages[0].Checks[0].Attempts[0].Status = ccci.Fail
	full.Lint[0].Severity, full.Cause.Findings[0].Severity, full.BrokenBases[0].Cause.Findings[0].Severity = "error", "error", "error"
	full.Images[0].Stage = "base"
	full.Changes[0].Kind = "added"
	full.Review.Changes[0].Kind, full.Review.Findings[0].Severity = "added", "error"
	full.Artifacts[0].Kind = "log"
	if err := validate(t, schema, full); err != nil {
		t.Errorf("%v", err)
	}
	full.Status, full.Stages[0].Status, full.Stages[0].Checks[0].Status = ccci.StatusFlaky, ccci.Flaky, ccci.Flaky
	if err := validate(t, schema, full); err != nil {
		t.Errorf("a flaky run: %v", err)
	}
	full.Level = 6
	if validate(t, schema, full) == nil {
		t.Error("level 6 fits the schema")
	}
}

// fill sets every field of a value to something that is not empty.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.SetMapIndex(reflect.ValueOf("key"), value)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Bool:
		v.SetBool(true)
	}
}
