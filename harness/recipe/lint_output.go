package recipe

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// WriteJSON writes findings as a JSON array, [] when there are none.
func WriteJSON(w io.Writer, findings []ccci.Finding) error {
	if findings == nil {
		findings = []ccci.Finding{}
	}
	return writeIndented(w, findings)
}

func writeIndented(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("writing lint findings: %w", err)
	}
	return nil
}

// The parts of SARIF 2.1.0 that are used here.
// https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string      `json:"id"`
		Short         sarifText   `json:"shortDescription"`
		Help          *sarifText  `json:"help,omitempty"`
		Configuration sarifConfig `json:"defaultConfiguration"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI       string `json:"uri"`
		URIBaseID string `json:"uriBaseId"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
)

// WriteSARIF writes findings as a SARIF 2.1.0 log, which forges and editors show beside the
// lines. All rules are listed, broken or not.
func WriteSARIF(w io.Writer, findings []ccci.Finding) error {
	run := sarifRun{
		Tool:    sarifTool{sarifDriver{Name: "cc-ci recipe lint", InformationURI: "https://github.com/recipe-maintainers/cc-ci"}},
		Results: []sarifResult{},
	}
	index := map[string]int{}
	addRule := func(id, title, hint, severity string) {
		index[id] = len(run.Tool.Driver.Rules)
		rule := sarifRule{ID: id, Short: sarifText{title}, Configuration: sarifConfig{severity}}
		if hint != "" {
			rule.Help = &sarifText{hint}
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
	}
	for _, rule := range Rules() {
		addRule(rule.ID, rule.Title, rule.Hint, rule.Severity)
	}
	for _, f := range findings {
		if _, ok := index[f.Rule]; !ok {
			addRule(f.Rule, f.Rule, "", f.Severity)
		}
		result := sarifResult{RuleID: f.Rule, RuleIndex: index[f.Rule], Level: f.Severity, Message: sarifText{f.Message}}
		if f.File != "" {
			physical := sarifPhysical{Artifact: sarifArtifact{URI: sarifURI(f.File), URIBaseID: "%SRCROOT%"}}
			if f.Line > 0 {
				physical.Region = &sarifRegion{StartLine: f.Line}
			}
			result.Locations = []sarifLocation{{physical}}
		}
		run.Results = append(run.Results, result)
	}
	return writeIndented(w, sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	})
}

// sarifURI escapes a path as a relative URI reference.
func sarifURI(file string) string { return (&url.URL{Path: file}).String() }
