package config

import (
	"fmt"
	"path/filepath"
)

// Checkout says under which enrolment cc-ci run tests a checkout.
type Checkout struct {
	Dir    string `yaml:"dir" doc:"Directory of the checkout."`
	Recipe string `yaml:"recipe" doc:"Name of the enrolment: settings, waivers and hooks are those of tests/<recipe>."`
}

// checkoutsFromFolder makes relative directories start at the file's folder.
func (c *Config) checkoutsFromFolder(dir string) {
	for i := range c.Checkouts {
		if p := &c.Checkouts[i].Dir; *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (c *Config) finishCheckouts(bad complain) {
	for i, checkout := range c.Checkouts {
		if checkout.Dir == "" || checkout.Recipe == "" {
			bad(fmt.Sprintf("checkouts[%d]", i), "write {dir: DIRECTORY, recipe: NAME}", "a checkout needs dir and recipe")
		}
	}
}
