package settings

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Field is one setting as its struct tags declare it.
type Field struct {
	Index   int
	Key     string
	Default string // as YAML; "" for the zero value
	Doc     string
	Form    string // what a text must look like, in one word: "size"; "" for any text
	Type    reflect.Type
}

// FieldsOf lists the settings of a struct, in the order of its fields.
func FieldsOf(t reflect.Type) []Field {
	var fields []Field
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		fields = append(fields, Field{i, key, f.Tag.Get("default"), f.Tag.Get("doc"), f.Tag.Get("form"), f.Type})
	}
	return fields
}

func settable(p any) reflect.Value { return reflect.ValueOf(p).Elem() }

// Defaults sets every field of *p that has a default tag, through nested
// structs. A default that does not fit its field is a programming error.
func Defaults(p any) {
	v := settable(p)
	for _, f := range FieldsOf(v.Type()) {
		target := v.Field(f.Index)
		if target.Kind() == reflect.Struct {
			Defaults(target.Addr().Interface())
			continue
		}
		if f.Default == "" {
			continue
		}
		if target.Type() == durationType {
			d, err := time.ParseDuration(f.Default)
			if err != nil {
				panic(fmt.Sprintf("settings: the default of %s: %v", f.Key, err))
			}
			target.SetInt(int64(d))
			continue
		}
		if err := yaml.Unmarshal([]byte(f.Default), target.Addr().Interface()); err != nil {
			panic(fmt.Sprintf("settings: the default of %s: %v", f.Key, err))
		}
	}
}

// typeName is a type in the words of the documentation and of messages.
func typeName(t reflect.Type) string {
	if t == durationType {
		return "duration"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Int:
		return "number"
	case reflect.Bool:
		return "truth value (true or false)"
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		switch elem := t.Elem(); elem.Kind() {
		case reflect.Struct:
			return "list of " + plural(words(elem.Name()))
		case reflect.Int:
			return "number or list of numbers"
		default:
			return "list of texts"
		}
	case reflect.Map:
		return "mapping of texts"
	case reflect.Interface:
		return "free-form value"
	default:
		return "mapping (" + words(t.Name()) + ")"
	}
}

func plural(s string) string {
	if stem, ok := strings.CutSuffix(s, "y"); ok {
		return stem + "ies"
	}
	return s + "s"
}

// words splits a Go type name into words: HTTPStep becomes "HTTP step".
func words(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		upper := r >= 'A' && r <= 'Z'
		nextLower := i+1 < len(runes) && runes[i+1] >= 'a'
		prevLower := i > 0 && runes[i-1] >= 'a'
		if upper && i > 0 && (prevLower || nextLower) {
			b.WriteByte(' ')
		}
		if upper && nextLower {
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
