package recipe

import (
	"bytes"
	"maps"
)

// appEnv is the environment of one app on its way into a stack.
type appEnv struct {
	text     []byte   // the env file
	file     *EnvFile // the same, parsed
	sample   *EnvFile // .env.sample as it is
	env      Env      // the env file, then abra.sh, then what is forced
	warnings []Warning
}

// AppEnv returns the variables that Render would use, so that the compose files of a
// rendering can be found before it.
func (t *Tree) AppEnv(o RenderOptions) (Env, error) {
	app, err := t.appEnv(o)
	if err != nil {
		return Env{}, err
	}
	return app.env, nil
}

func (t *Tree) appEnv(o RenderOptions) (*appEnv, error) {
	if err := checkDomain(o.Domain); err != nil {
		return nil, err
	}
	sample, err := t.sample()
	if err != nil {
		return nil, err
	}
	name, text := sampleName, o.EnvFile
	if text == nil {
		raw, err := t.ReadFile(sampleName, maxEnvText)
		if err != nil {
			return nil, err
		}
		text = bytes.ReplaceAll(raw, []byte(t.Recipe+".example.com"), []byte(o.Domain))
	} else {
		name = "the app's env file"
	}
	app := &appEnv{sample: sample}
	if app.file, err = ParseEnv(name, text); err != nil {
		return nil, err
	}
	app.text = appendOverrides(text, app.file.Env, o)
	if app.file, err = ParseEnv(name, app.text); err != nil {
		return nil, err
	}
	app.warnings = app.file.Warnings
	for _, key := range []string{"POST_DEPLOY_CMDS", "POST_UPGRADE_CMDS", "POST_UNDEPLOY_CMDS"} {
		if app.file.Get(key) != "" {
			app.warnings = append(app.warnings, Warning{name, app.file.Lines[key], key + " is not run here; abra runs it for operators"})
		}
	}

	abra, lines, abraWarnings, err := t.abra()
	if err != nil {
		return nil, err
	}
	app.warnings = append(app.warnings, abraWarnings...)
	app.env = app.file.Env.Clone()
	forced := forcedEnv(o)
	for _, key := range abra.keys {
		if want, ok := forced[key]; ok && abra.Get(key) != want {
			app.warnings = append(app.warnings, Warning{abraName, lines[key], "the export of " + key + " is not used: the run sets it"})
			continue
		}
		app.env.Set(key, abra.Get(key))
	}
	if stated, ok := app.file.Lookup("STACK_NAME"); ok && stated != StackName(o.Domain) {
		app.warnings = append(app.warnings, Warning{name, app.file.Lines["STACK_NAME"], "STACK_NAME is not used: the run derives it from its domain"})
	}
	app.env.Set("STACK_NAME", StackName(o.Domain))
	return app, nil
}

// forcedEnv is what a run decides, whatever the recipe says: where the app lives, and
// that nobody asks an ACME server for certificates (the proxy has a wildcard).
func forcedEnv(o RenderOptions) map[string]string {
	forced := map[string]string{"DOMAIN": o.Domain, "LETS_ENCRYPT_ENV": "", "STACK_NAME": StackName(o.Domain)}
	maps.Copy(forced, o.ExtraDomains)
	return forced
}

// appendOverrides adds lines for what differs. An env file in which nothing
// differs stays as it is, byte for byte.
func appendOverrides(text []byte, env Env, o RenderOptions) []byte {
	wanted := maps.Clone(o.Env)
	if wanted == nil {
		wanted = map[string]string{}
	}
	maps.Copy(wanted, forcedEnv(o))
	delete(wanted, "STACK_NAME") // abra derives it too; it is not in env files
	var lines bytes.Buffer
	for _, key := range sortedKeys(wanted) {
		if have, ok := env.Lookup(key); !ok || have != wanted[key] {
			lines.WriteString(envLine(key, wanted[key]))
		}
	}
	if lines.Len() == 0 {
		return text
	}
	out := bytes.Clone(text)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, lines.Bytes()...)
}
