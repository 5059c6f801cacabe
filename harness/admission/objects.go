package admission

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
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
		switch {
		case v.External.External && !j.own(v.Name):
			for _, use := range j.accesses(key) {
				how := ""
				if strings.HasSuffix(use, readOnly) {
					how = ", read-only"
				}
				j.refuse(ruleVolume, "", joined(v.Name)+use, at(v.Name), "leave name and external out",
					"uses the volume %q, which is not its own%s", v.Name, how)
			}
		case v.Name != "" && !j.own(v.Name):
			j.foreignName("volume", key, v.Name)
		}
		if v.Driver != "" && v.Driver != "local" {
			j.refuse(ruleVolumeDriver, "", v.Driver, at(v.Driver), "use the local driver", "keeps the volume %s with the driver %s", key, v.Driver)
		}
		if v.Spec != nil {
			spec, _ := json.Marshal(v.Spec) // of numbers and texts
			j.refuse(ruleVolumeDriver, "", j.keyValue("cluster", string(spec)), at(""), "", "keeps the volume %s with a cluster driver", key)
		}
		if len(v.DriverOpts) > 0 {
			driver := ""
			if v.Driver != "" && v.Driver != "local" {
				driver = "driver=" + v.Driver
			}
			value := settingsValue(driver, v.DriverOpts)
			var opts []string
			for _, name := range sorted(v.DriverOpts) {
				opts = append(opts, name+"="+v.DriverOpts[name])
			}
			what := strings.Join(opts, ",")
			for _, use := range j.accesses(key) {
				if daemonPath.MatchString(what) {
					j.refuse(ruleSocket, "", value+use, at("driver_opts"), "", "hides a path of the container daemon behind the volume %s: %s", key, what)
				} else {
					j.refuse(ruleVolumeDriver, "", value+use, at("driver_opts"), "leave driver_opts out",
						"hides something else behind the volume %s: %s", key, what)
				}
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
		switch {
		case n.External.External && !j.own(n.Name):
			j.refuse(ruleNetwork, "", n.Name, at(n.Name), "use an internal network of the stack, and the external network "+j.policy.Network+" towards the proxy",
				"uses the network %q, which is not its own", n.Name)
		case n.Name != "" && !j.own(n.Name):
			j.foreignName("network", key, n.Name)
		}
		if n.Driver != "" && n.Driver != "overlay" {
			j.refuse(ruleNetworkDriver, "", n.Driver, at(n.Driver), "use overlay", "makes the network %s with the driver %s", key, n.Driver)
		}
		for _, opt := range sorted(n.DriverOpts) {
			if opt != "encrypted" && opt != "com.docker.network.driver.mtu" {
				j.refuse(ruleNetworkDriver, "", j.keyValue(opt, n.DriverOpts[opt]), at(opt), "", "sets the driver option %s of the network %s", opt, key)
			}
		}
		if n.Ipam.Driver != "" && n.Ipam.Driver != "default" {
			j.refuse(ruleNetworkDriver, "", key+".ipam.driver="+n.Ipam.Driver, at("ipam"), "leave ipam out", "lets %s choose the addresses of the network %s", n.Ipam.Driver, key)
		}
		for _, pool := range n.Ipam.Config {
			subnet := ""
			if pool != nil {
				subnet = pool.Subnet
			}
			j.refuse(ruleNetworkDriver, "", key+".ipam="+subnet, at("ipam"), "leave ipam out", "chooses the addresses of the network %s, %q", key, subnet)
		}
		j.reserved("", n.Labels, "networks", key, "labels")
	}
}

// foreignName refuses to make an object under the name of another's: swarm takes what is there
// for its own, and the teardown removes what a recipe declares as its own.
func (j *judge) foreignName(kind, key, name string) {
	j.refuse(ruleForeignName, "", kind+"s."+key+"="+name, j.locate(name, kind+"s", key), "leave name out, or begin it with ${STACK_NAME}_; what exists already is external: true",
		"declares the %s %q as its own, whose name does not begin with the stack's", kind, name)
}

// driverValue is that of a config or secret whose text a driver fetches: by the name, the options
// and the labels.
func (j *judge) driverValue(kind, key string, o types.FileObjectConfig) string {
	asked := maps.Clone(o.DriverOpts)
	if asked == nil {
		asked = map[string]string{}
	}
	for name, text := range o.Labels {
		if _, ours := j.stack.Labels[name]; !ours {
			asked["labels."+name] = text
		}
	}
	return kind + "s." + key + "=" + settingsValue(o.Driver, asked)
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
	switch {
	case o.External.External && !j.own(o.Name):
		j.refuse(rule, "", o.Name, at(o.Name), "name it ${STACK_NAME}_"+key+"_<version>", "uses the %s %q, which is not its own", kind, o.Name)
	case o.Name != "" && !j.own(o.Name):
		j.foreignName(kind, key, o.Name)
	}
	if o.Driver != "" || len(o.DriverOpts) > 0 {
		j.refuse(ruleFileDriver, "", j.driverValue(kind, key, o), at(o.Driver), "", "fetches the %s %s with the driver %s", kind, key, o.Driver)
	}
	if o.TemplateDriver != "" && o.TemplateDriver != "golang" {
		j.refuse(ruleFileDriver, "", "template_driver="+o.TemplateDriver, at(o.TemplateDriver), "", "renders the %s %s with the template driver %s", kind, key, o.TemplateDriver)
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

// linked reports whether a path within the recipe leads through a symbolic link. The daemon would
// follow it, so a waiver for a folder of the recipe would be one for whatever a pull request puts there.
func (j *judge) linked(path string) bool {
	if !filepath.IsLocal(path) {
		return false
	}
	root, err := os.OpenRoot(j.stack.Dir)
	if err != nil {
		return false
	}
	defer root.Close()
	for clean := filepath.Clean(path); clean != "."; clean = filepath.Dir(clean) {
		if info, err := root.Lstat(clean); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
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
