package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// abraRules are the rules of abra recipe lint, computed from the files. Abra's own deploy stops at
// its errors. R010 and R012 are not marked as refused: abra has exceptions from them that it does
// not publish, and recipes that break them are in use.
var abraRules = []Rule{
	{ID: "R001", Severity: severityWarning, Title: "compose files state version 3.8",
		Hint: `write version: "3.8" at the top`, check: checkR001},
	{ID: "R002", Severity: severityWarning, Title: "every service has a healthcheck",
		Hint: "without one, swarm takes a started process for a working one", check: checkR002},
	{ID: "R003", Severity: severityWarning, Title: "every image has a tag",
		Hint: "write image: name:tag", check: checkR003},
	{ID: "R004", Severity: severityWarning, Title: "no image has a moving tag",
		Hint: "write the tag of a release; a moving tag gives every operator something else", check: checkR004},
	{ID: "R005", Severity: severityWarning, Title: "image tags look like versions",
		Hint: "a tag that begins with a version lets tools find newer ones", check: checkR005},
	{ID: "R006", Severity: severityWarning, Title: "the version is published in the catalogue", Needs: "the catalogue",
		Hint: "publish the release, then regenerate the catalogue", check: checkR006},
	{ID: "R007", Severity: severityWarning, Title: "the README's metadata is filled in",
		Hint: "fill the block between <!-- metadata --> and <!-- endmetadata -->", check: checkR007},
	{ID: "R008", Severity: severityError, AbraRefuses: true, Title: "there is an .env.sample, and it parses",
		Hint: "every line is KEY=value or a comment", check: checkR008},
	{ID: "R009", Severity: severityError, AbraRefuses: true, Title: "one service is named app",
		Hint: "abra puts its labels and the env on the service app", check: checkR009},
	{ID: "R010", Severity: severityError, Title: "traefik routes to a service",
		Hint: `write the deploy label "traefik.enable=true" with a router and a port`, check: checkR010},
	{ID: "R011", Severity: severityError, AbraRefuses: true, Title: "every service has an image",
		Hint: "stacks do not build images", check: checkR011},
	{ID: "R012", Severity: severityError, Title: "config names carry a version variable that abra.sh exports",
		Hint: "write name: ${STACK_NAME}_x_${X_VERSION} and export X_VERSION=v1 in abra.sh; swarm cannot change a config that exists", check: checkR012},
	{ID: "R014", Severity: severityError, AbraRefuses: true, Title: "release tags are annotated", Needs: "the repository's tags",
		Hint: "the tag is one of the repository and not of this commit: git tag -a -f TAG COMMIT, then push it; abra recipe release makes such tags", check: checkR014},
	{ID: "R015", Severity: severityWarning, Title: "secret names are short enough for any app",
		Hint: "docker allows 64 characters, and the name of the stack takes up to 45", check: checkR015},
}

func checkR001(r *lintRun) []place {
	var out []place
	for _, f := range r.files {
		if got := statedVersion(f); got != "3.8" {
			out = append(out, place{f.name, f.line("version"), fmt.Sprintf("version is %s", got)})
		}
	}
	return out
}

func checkR002(r *lintRun) []place {
	if r.stack == nil {
		return nil
	}
	var out []place
	for _, service := range r.stack.Config.Services {
		if check := service.HealthCheck; check == nil || check.Disable || len(check.Test) > 0 && check.Test[0] == "NONE" {
			file, line := findLine(r.active(), "services", service.Name)
			out = append(out, place{file, line, fmt.Sprintf("service %s has no healthcheck", shorten(service.Name))})
		}
	}
	return out
}

var (
	movingTags = []string{"latest", "stable", "main", "master", "edge", "nightly", "develop", "dev", "unstable", "beta"}
	versionTag = regexp.MustCompile(`^[a-zA-Z]{0,8}[-_.]?[0-9]`)
	digestTail = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
)

// images visits every image with variables filled in from the sample.
func (r *lintRun) images(visit func(at place, service, image, tag string)) {
	r.services(func(f *composeFile, name string, service map[string]any) {
		raw, _ := service["image"].(string)
		image := r.fillIn(raw)
		if image == "" || digestTail.MatchString(image) {
			return
		}
		rest := image[strings.LastIndexByte(image, '/')+1:]
		_, tag, _ := strings.Cut(rest, ":")
		visit(place{file: f.name, line: f.line("services", name, "image")}, shorten(name), shorten(image), shorten(tag))
	})
}

func checkR003(r *lintRun) []place {
	var out []place
	r.images(func(at place, service, image, tag string) {
		if tag == "" {
			at.message = fmt.Sprintf("service %s: the image %s has no tag, which stands for latest", service, image)
			out = append(out, at)
		}
	})
	return out
}

func checkR004(r *lintRun) []place {
	var out []place
	r.images(func(at place, service, image, tag string) {
		if slices.Contains(movingTags, strings.ToLower(tag)) {
			at.message = fmt.Sprintf("service %s: the image %s has a moving tag", service, image)
			out = append(out, at)
		}
	})
	return out
}

func checkR005(r *lintRun) []place {
	var out []place
	r.images(func(at place, service, image, tag string) {
		if tag != "" && !slices.Contains(movingTags, strings.ToLower(tag)) && !versionTag.MatchString(tag) {
			at.message = fmt.Sprintf("service %s: the tag of %s does not look like a version", service, image)
			out = append(out, at)
		}
	})
	return out
}

func checkR006(r *lintRun) []place {
	version := r.tree.Version()
	if r.options.Catalogue == nil || version == "" || slices.Contains(r.options.Catalogue, version) {
		return nil
	}
	return []place{{composeName, 0, fmt.Sprintf("version %s is not in the catalogue", shorten(version))}}
}

var metadataLine = regexp.MustCompile(`(?m)^\s*[*-]\s*\*\*([A-Za-z ]+)\*\*:[ \t]*(.*)$`)

func checkR007(r *lintRun) []place {
	const readme = "README.md"
	text, err := r.tree.ReadFile(readme, maxOtherFile)
	if err != nil {
		return []place{{readme, 0, "there is no README.md"}}
	}
	_, block, begun := strings.Cut(string(text), "<!-- metadata -->")
	block, _, ended := strings.Cut(block, "<!-- endmetadata -->")
	if !begun || !ended {
		return []place{{readme, 0, "README.md has no metadata block"}}
	}
	filled := map[string]bool{}
	for _, m := range metadataLine.FindAllStringSubmatch(block, -1) {
		filled[m[1]] = strings.TrimSpace(m[2]) != ""
	}
	var missing []string
	for _, key := range []string{"Category", "Status", "Image", "Healthcheck", "Backups", "Email", "Tests", "SSO"} {
		if !filled[key] {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []place{{readme, 0, "the metadata lacks " + strings.Join(missing, ", ")}}
}

func checkR008(r *lintRun) []place {
	if r.sampleErr == nil {
		return nil
	}
	return []place{{sampleName, errorLine(r.sampleErr), r.sampleErr.Error()}}
}

func checkR009(r *lintRun) []place {
	if r.stack == nil || r.stack.app() != nil {
		return nil
	}
	return []place{{composeName, 0, "no service is named app"}}
}

func checkR010(r *lintRun) []place {
	if r.stack == nil {
		return nil
	}
	for _, service := range r.stack.Config.Services {
		if service.Deploy.Labels["traefik.enable"] == "true" {
			return nil
		}
	}
	return []place{{composeName, 0, "no service has the deploy label traefik.enable=true"}}
}

func checkR011(r *lintRun) []place {
	if r.stack == nil {
		return nil
	}
	var out []place
	for _, service := range r.stack.Config.Services {
		if service.Image == "" {
			file, line := findLine(r.active(), "services", service.Name)
			out = append(out, place{file, line, fmt.Sprintf("service %s has no image", shorten(service.Name))})
		}
	}
	return out
}

func checkR012(r *lintRun) []place {
	var out []place
	for _, f := range r.files {
		configs := f.section("configs")
		for _, key := range sortedKeys(configs) {
			object, _ := configs[key].(map[string]any)
			if object["external"] != nil && object["external"] != false {
				continue
			}
			raw, _ := object["name"].(string)
			if !r.versioned(raw) {
				out = append(out, place{f.name, f.line("configs", key), fmt.Sprintf("the config %s is named %q, without a version from abra.sh", shorten(key), shorten(raw))})
			}
		}
	}
	return out
}

// versioned reports whether a name holds a variable that abra.sh exports, or one with
// a default, which is raised in the name itself.
func (r *lintRun) versioned(raw string) bool {
	for _, variable := range variablesIn(raw) {
		_, exported := r.abra.Lookup(variable)
		if variable != "STACK_NAME" && (exported || strings.Contains(raw, "${"+variable+":-") || strings.Contains(raw, "${"+variable+"-")) {
			return true
		}
	}
	return false
}

func checkR014(r *lintRun) []place {
	var out []place
	for _, release := range r.options.Releases {
		if !release.Annotated {
			out = append(out, place{"", 0, fmt.Sprintf("the release tag %s is lightweight; abra refuses to deploy the recipe", shorten(release.Tag))})
		}
	}
	return out
}

func checkR015(r *lintRun) []place {
	var out []place
	for _, f := range r.files {
		secrets := f.section("secrets")
		for _, key := range sortedKeys(secrets) {
			tail := strings.TrimPrefix(r.fillIn(strings.ReplaceAll(rawName([]*composeFile{f}, "secrets", key), "${STACK_NAME}", "")), "$STACK_NAME")
			if most := maxSecretName - maxStackName; len(tail) > most {
				out = append(out, place{f.name, f.line("secrets", key),
					fmt.Sprintf("the secret %s adds %d characters (%s) to the name of the stack; %d always fit", shorten(key), len(tail), shorten(tail), most)})
			}
		}
	}
	return out
}
