package enrol

import "strings"

// Starter returns a recipe.yml to begin with: nothing is set, and what most recipes set
// first stands in it as comments. Lines that begin with #, without a space after it, are settings.
func Starter(recipe string) string {
	return strings.ReplaceAll(starter, "RECIPE", recipe)
}

const starter = `# How RECIPE is tested. Everything here is optional: as it stands, every stage runs with
# the defaults. docs/enrol-recipe.md goes through it, docs/settings.md lists every setting.
# To set something, take away the # at the beginning of its lines.

# What a healthy app answers.
#health:
#  path: /              # asked for on the app's domain
#  status: [200, 302]   # accepted
#  contains: ""         # text that the body must hold

# An app that needs longer.
#timeouts:
#  deploy: 15m          # services converge
#  healthy: 10m         # then the app answers

# Extra lines of the app's env file.
#env:
#  ADMIN_EMAIL: admin@{{.Domain}}

# Data that goes in through the app, and must come back after upgrade and restore.
# This is what makes a green worth something.
#seed:
#  - name: create a note
#    http:
#      method: POST
#      path: /api/notes
#      json: {text: '{{.Marker}}'}
#      expect: {status: [200, 201]}
#verify:
#  - name: read the note
#    http:
#      path: /api/notes
#      expect: {json: {text: '{{.Marker}}'}}

# Questions of the recipe's own.
#checks:
#  - name: log in
#    browser:
#      - {open: /login}
#      - {text: "Welcome"}
`
