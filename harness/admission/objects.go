package admission

import (
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/cli/cli/compose/types"
	"go.yaml.in/yaml/v4"

	ccci "github.com/recipe-maintainers/cc-ci"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// plainKey is one that is still one name where a path is made of it.
var plainKey = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*$`)

// keys judges what services, volumes, networks, configs and secrets are called.
func (j *judge) keys() {
	one := func(section, key string) {
		if !plainKey.MatchString(key) {
			j.refuse(ruleReservedName, "", section+"."+key, j.locate(key, section), "begin it with a letter or a digit", "has the key %q under %s, of which no path can be made", key, section)
		}
	}
	c := j.stack.Config
	for _, s := range c.Services {
		one("services", s.Name)
	}
	for _, key := range sorted(c.Volumes) {
		one("volumes", key)
	}
	for _, key := range sorted(c.Networks) {
		one("networks", key)
	}
	for _, key := range sorted(c.Configs) {
		one("configs", key)
	}
	for _, key := range sorted(c.Secrets) {
		one("secrets", key)
	}
}

// volumes judges the declared volumes, used or not.
func (j *judge) volumes() {
	for _, key := range sorted(j.stack.Config.Volumes) {
		v := j.stack.Config.Volumes[key]
		at := func(text string) place { return j.locate(text, "volumes", key) }
		if v.Name != "" && !j.own(v.Name) || bool(v.External.External) && !j.own(v.Name) {
			j.refuse(ruleVolume, "", v.Name, at(v.Name), "leave name and external out",
				"uses the volume %q, which is not its own", v.Name)
		}
		if v.Driver != "" && v.Driver != "local" {
			j.refuse(ruleVolumeDriver, "", v.Driver, at(v.Driver), "use the local driver", "keeps the volume %s with the driver %s", key, v.Driver)
		}
		if v.Spec != nil {
			j.refuse(ruleVolumeDriver, "", "cluster", at(""), "", "keeps the volume %s with a cluster driver", key)
		}
		if len(v.DriverOpts) > 0 {
			var opts []string
			for _, name := range sorted(v.DriverOpts) {
				opts = append(opts, name+"="+v.DriverOpts[name])
			}
			value := strings.Join(opts, ",")
			if daemonPath.MatchString(value) {
				j.refuse(ruleSocket, "", value, at("driver_opts"), "", "hides a path of the container daemon behind the volume %s: %s", key, value)
			} else {
				j.refuse(ruleVolumeDriver, "", value, at("driver_opts"), "leave driver_opts out",
					"hides something else behind the volume %s: %s", key, value)
			}
		}
		j.reserved("", v.Labels, "volumes", key, "labels")
	}
}

// networks judges the declared networks, used or not.
func (j *judge) networks() {
	for _, key := range sorted(j.stack.Config.Networks) {
		n := j.stack.Config.Networks[key]
		at := func(text string) place { return j.locate(text, "networks", key) }
		if n.External.External && n.Name == j.policy.Network {
			continue
		}
		if (n.External.External || n.Name != "") && !j.own(n.Name) {
			j.refuse(ruleNetwork, "", n.Name, at(n.Name), "use an internal network of the stack, and the external network "+j.policy.Network+" towards the proxy",
				"uses the network %q, which is not its own", n.Name)
		}
		if n.Driver != "" && n.Driver != "overlay" {
			j.refuse(ruleNetworkDriver, "", n.Driver, at(n.Driver), "use overlay", "makes the network %s with the driver %s", key, n.Driver)
		}
		for _, opt := range sorted(n.DriverOpts) {
			if opt != "encrypted" && opt != "com.docker.network.driver.mtu" {
				j.refuse(ruleNetworkDriver, "", opt, at(opt), "", "sets the driver option %s of the network %s", opt, key)
			}
		}
		if n.Ipam.Driver != "" && n.Ipam.Driver != "default" || len(n.Ipam.Config) > 0 {
			j.refuse(ruleNetworkDriver, "", key+".ipam", at("ipam"), "leave ipam out", "chooses the addresses of the network %s", key)
		}
		j.reserved("", n.Labels, "networks", key, "labels")
	}
}

// fileObjects judges configs and secrets.
func (j *judge) fileObjects() {
	for _, key := range sorted(j.stack.Config.Configs) {
		_, read := j.stack.ConfigData[key]
		j.fileObject("config", ruleConfig, key, types.FileObjectConfig(j.stack.Config.Configs[key]), read)
	}
	for _, key := range sorted(j.stack.Config.Secrets) {
		_, read := j.stack.SecretData[key]
		j.fileObject("secret", ruleSecret, key, types.FileObjectConfig(j.stack.Config.Secrets[key]), read)
	}
}

// fileObject judges one config or secret. read says that rendering has read
// its bytes, safely, and that those are deployed; its file may then be one of our
// own overlays, and the recipe's own were judged with the raw files.
func (j *judge) fileObject(kind, rule, key string, o types.FileObjectConfig, read bool) {
	at := func(text string) place { return j.locate(text, kind+"s", key) }
	if (o.External.External || o.Name != "") && !j.own(o.Name) {
		j.refuse(rule, "", o.Name, at(o.Name), "name it ${STACK_NAME}_"+key+"_<version>", "uses the %s %q, which is not its own", kind, o.Name)
	}
	if o.Driver != "" || len(o.DriverOpts) > 0 {
		j.refuse(ruleFileDriver, "", o.Driver, at(o.Driver), "", "fetches the %s %s with the driver %s", kind, key, o.Driver)
	}
	if o.TemplateDriver != "" && o.TemplateDriver != "golang" {
		j.refuse(ruleFileDriver, "", o.TemplateDriver, at(o.TemplateDriver), "", "renders the %s %s with the template driver %s", kind, key, o.TemplateDriver)
	}
	if !read && !o.External.External && o.Driver == "" && o.File != "" {
		j.file("", j.shown(o.File), kind+" "+key, func() place { return at("file") })
	}
	j.reserved("", o.Labels, kind+"s", key, "labels")
}

// file refuses a path that is not a plain file of the recipe. path is
// relative to the recipe, unless it leaves it.
func (j *judge) file(service, path, what string, at func() place) {
	if daemonPath.MatchString(path) {
		j.refuse(ruleSocket, service, path, at(), "", "reads a path of the container daemon, %s, as %s", path, what)
		return
	}
	root, err := os.OpenRoot(j.stack.Dir)
	if err == nil {
		err = plainPath(root, path)
		root.Close()
	}
	if err == nil || ccci.CodeOf(err) == ccci.CodeInvalid { // that it is not there is the renderer's affair
		return
	}
	rule, why := ruleFileOutside, err.Error()
	if strings.Contains(why, "(rule "+ruleSymlink+")") {
		rule = ruleSymlink
	}
	why, _, _ = strings.Cut(why, " (rule ")
	if own, ok := strings.CutPrefix(why, path+" "); ok {
		why = "which " + own
	} else {
		why = "but " + why
	}
	var e *ccci.Error
	hint := ""
	if errors.As(err, &e) {
		hint = e.Hint
	}
	j.refuse(rule, service, path, at(), hint, "reads %s as %s, %s", path, what, why)
}

// envFiles returns the env_file entries of a raw service: a text, a list of
// texts, or a list of mappings with a path.
func (j *judge) envFiles(service *yaml.Node) []rawText {
	var out []rawText
	for _, item := range items(child(service, "env_file")) {
		item = follow(item)
		if item.Kind == yaml.MappingNode {
			item = follow(child(item, "path"))
		}
		if item != nil && item.Kind == yaml.ScalarNode && item.ShortTag() != "!!null" {
			out = append(out, rawText{j.shown(j.fill(item.Value)), item.Line})
		}
	}
	return out
}
