package admission

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/compose/types"
)

// modelFields lists every field of the compose model as "Type.Field".
func modelFields() []string {
	var names []string
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			walk(t.Elem())
		case reflect.Struct:
			if seen[t] || !strings.HasPrefix(t.PkgPath(), "github.com/docker/cli/") {
				return
			}
			seen[t] = true
			name := t.Name()
			for _, same := range []reflect.Type{reflect.TypeFor[types.FileObjectConfig](), reflect.TypeFor[types.FileReferenceConfig]()} {
				if t.ConvertibleTo(same) {
					name = same.Name() // SecretConfig and the like have its fields
				}
			}
			for i := range t.NumField() {
				names = append(names, name+"."+t.Field(i).Name)
				if t == reflect.TypeFor[types.VolumeConfig]() && t.Field(i).Name == "Spec" {
					continue // refused as a whole
				}
				walk(t.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[types.Config]())
	slices.Sort(names)
	return slices.Compact(names)
}

// A field that a new version of docker/cli brings is judged or declared harmless
// before that version is used.
func TestN3_EveryFieldOfTheModelIsDealtWith(t *testing.T) {
	known := map[string]bool{}
	for _, f := range fields {
		if known[f.name] {
			t.Errorf("%s stands twice in the table", f.name)
		}
		known[f.name] = true
		for _, rule := range f.rules {
			if _, ok := ruleDoc(rule); !ok {
				t.Errorf("%s is judged by the rule %s, which does not exist", f.name, rule)
			}
		}
	}
	have := modelFields()
	for _, name := range have {
		if !known[name] {
			t.Errorf("nothing is known about the field %s: judge it, or say in fields.go why it is harmless", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("the model has no field %s any more", name)
	}
}

// hostileValues sets each judged field to something that its rules refuse.
var hostileValues = map[string]func(c *types.Config, s *types.ServiceConfig){
	"ServiceConfig.Name":         func(_ *types.Config, s *types.ServiceConfig) { s.Name = "cc-ci_traefik" },
	"ServiceConfig.CapAdd":       func(_ *types.Config, s *types.ServiceConfig) { s.CapAdd = []string{"ALL"} },
	"ServiceConfig.CgroupNSMode": func(_ *types.Config, s *types.ServiceConfig) { s.CgroupNSMode = "host" },
	"ServiceConfig.CgroupParent": func(_ *types.Config, s *types.ServiceConfig) { s.CgroupParent = "/" },
	"ServiceConfig.Command":      func(_ *types.Config, s *types.ServiceConfig) { s.Command = make([]string, 5000) },
	"ServiceConfig.Entrypoint":   func(_ *types.Config, s *types.ServiceConfig) { s.Entrypoint = make([]string, 5000) },
	"ServiceConfig.Devices":      func(_ *types.Config, s *types.ServiceConfig) { s.Devices = []string{"/dev/sda"} },
	"ServiceConfig.DNS":          func(_ *types.Config, s *types.ServiceConfig) { s.DNS = []string{"127.0.0.1"} },
	"ServiceConfig.DNSSearch":    func(_ *types.Config, s *types.ServiceConfig) { s.DNSSearch = []string{"a b"} },
	"ServiceConfig.Environment":  func(_ *types.Config, s *types.ServiceConfig) { s.Environment = types.MappingWithEquals{"{{x}}": nil} },
	"ServiceConfig.EnvFile":      func(_ *types.Config, s *types.ServiceConfig) { s.EnvFile = []string{"/etc/passwd"} },
	"ServiceConfig.ExtraHosts":   func(_ *types.Config, s *types.ServiceConfig) { s.ExtraHosts = []string{"x:host-gateway"} },
	"ServiceConfig.WorkingDir":   func(_ *types.Config, s *types.ServiceConfig) { s.WorkingDir = "/proc/self/fd/7" },
	"ServiceConfig.Hostname":     func(_ *types.Config, s *types.ServiceConfig) { s.Hostname = "traefik" },
	"ServiceConfig.Image":        func(_ *types.Config, s *types.ServiceConfig) { s.Image = "127.0.0.1:5000/x" },
	"ServiceConfig.Ipc":          func(_ *types.Config, s *types.ServiceConfig) { s.Ipc = "host" },
	"ServiceConfig.Isolation":    func(_ *types.Config, s *types.ServiceConfig) { s.Isolation = "process" },
	"ServiceConfig.Labels":       func(_ *types.Config, s *types.ServiceConfig) { s.Labels = types.Labels{"cc-ci.x": ""} },
	"ServiceConfig.NetworkMode":  func(_ *types.Config, s *types.ServiceConfig) { s.NetworkMode = "host" },
	"ServiceConfig.Pid":          func(_ *types.Config, s *types.ServiceConfig) { s.Pid = "host" },
	"ServiceConfig.Privileged":   func(_ *types.Config, s *types.ServiceConfig) { s.Privileged = true },
	"ServiceConfig.SecurityOpt":  func(_ *types.Config, s *types.ServiceConfig) { s.SecurityOpt = []string{"seccomp:unconfined"} },
	"ServiceConfig.Sysctls":      func(_ *types.Config, s *types.ServiceConfig) { s.Sysctls = types.Mapping{"kernel.msgmax": "1"} },
	"ServiceConfig.Ulimits": func(_ *types.Config, s *types.ServiceConfig) {
		s.Ulimits = map[string]*types.UlimitsConfig{"rtprio": {Single: 1}}
	},
	"ServiceConfig.OomScoreAdj": func(_ *types.Config, s *types.ServiceConfig) { s.OomScoreAdj = -1 },
	"ServiceConfig.UserNSMode":  func(_ *types.Config, s *types.ServiceConfig) { s.UserNSMode = "host" },
	"LoggingConfig.Driver":      func(_ *types.Config, s *types.ServiceConfig) { s.Logging = &types.LoggingConfig{Driver: "syslog"} },
	"LoggingConfig.Options": func(_ *types.Config, s *types.ServiceConfig) {
		s.Logging = &types.LoggingConfig{Options: map[string]string{"x": ""}}
	},
	"DeployConfig.Mode":     func(_ *types.Config, s *types.ServiceConfig) { s.Deploy.Mode = "global-job" },
	"DeployConfig.Replicas": func(_ *types.Config, s *types.ServiceConfig) { s.Deploy.Replicas = ptr(uint64(21)) },
	"DeployConfig.Labels":   func(_ *types.Config, s *types.ServiceConfig) { s.Deploy.Labels = types.Labels{"traefik.x": ""} },
	"HealthCheckConfig.Interval": func(_ *types.Config, s *types.ServiceConfig) {
		s.HealthCheck = &types.HealthCheckConfig{Interval: ptr(types.Duration(time.Millisecond))}
	},
	"HealthCheckConfig.StartInterval": func(_ *types.Config, s *types.ServiceConfig) {
		s.HealthCheck = &types.HealthCheckConfig{StartInterval: ptr(types.Duration(time.Millisecond))}
	},
	"HealthCheckConfig.Test": func(_ *types.Config, s *types.ServiceConfig) {
		s.HealthCheck = &types.HealthCheckConfig{Test: make([]string, 5000)}
	},
	"DiscreteGenericResource.Kind": func(_ *types.Config, s *types.ServiceConfig) {
		s.Deploy.Resources.Reservations = &types.Resource{GenericResources: []types.GenericResource{{DiscreteResourceSpec: &types.DiscreteGenericResource{Kind: "gpu"}}}}
	},
	"Placement.Constraints": func(_ *types.Config, s *types.ServiceConfig) {
		s.Deploy.Placement.Constraints = []string{"node.hostname==x"}
	},
	"ServiceNetworkConfig.Aliases": func(_ *types.Config, s *types.ServiceConfig) {
		s.Networks["proxy"] = &types.ServiceNetworkConfig{Aliases: []string{"x"}}
	},
	"ServiceNetworkConfig.DriverOpts": func(_ *types.Config, s *types.ServiceConfig) {
		s.Networks["proxy"] = &types.ServiceNetworkConfig{DriverOpts: map[string]string{"x": ""}}
	},
	"ServiceNetworkConfig.Ipv4Address": func(_ *types.Config, s *types.ServiceConfig) {
		s.Networks["proxy"] = &types.ServiceNetworkConfig{Ipv4Address: "10.0.0.1"}
	},
	"ServiceNetworkConfig.Ipv6Address": func(_ *types.Config, s *types.ServiceConfig) {
		s.Networks["proxy"] = &types.ServiceNetworkConfig{Ipv6Address: "fd00::1"}
	},
	"ServicePortConfig.Target":    func(_ *types.Config, s *types.ServiceConfig) { s.Ports = []types.ServicePortConfig{{Target: 80}} },
	"ServicePortConfig.Published": func(_ *types.Config, s *types.ServiceConfig) { s.Ports = []types.ServicePortConfig{{Published: 80}} },
	"VolumeConfig.Type":           mounted(types.ServiceVolumeConfig{Type: "npipe", Target: "/x"}),
	"VolumeConfig.Source":         mounted(types.ServiceVolumeConfig{Type: "volume", Source: "undeclared", Target: "/x"}),
	"VolumeConfig.Target":         mounted(types.ServiceVolumeConfig{Type: "volume", Target: "/proc"}),
	"VolumeOpts.Subpath":          mounted(types.ServiceVolumeConfig{Type: "volume", Source: "data", Target: "/x", Volume: &types.ServiceVolumeVolume{Subpath: "../x"}}),
	"FileReferenceConfig.Target": func(_ *types.Config, s *types.ServiceConfig) {
		s.Secrets = []types.ServiceSecretConfig{{Source: "own", Target: "../x"}}
	},
	"UlimitsConfig.Single": func(_ *types.Config, s *types.ServiceConfig) {
		s.Ulimits = map[string]*types.UlimitsConfig{"nofile": {Single: 1 << 30}}
	},
	"UlimitsConfig.Soft": func(_ *types.Config, s *types.ServiceConfig) {
		s.Ulimits = map[string]*types.UlimitsConfig{"nofile": {Soft: 1 << 30}}
	},
	"UlimitsConfig.Hard": func(_ *types.Config, s *types.ServiceConfig) {
		s.Ulimits = map[string]*types.UlimitsConfig{"nofile": {Hard: -1}}
	},
	"NetworkConfig.Name":              network(types.NetworkConfig{Name: "host"}),
	"NetworkConfig.Driver":            network(types.NetworkConfig{Driver: "macvlan"}),
	"NetworkConfig.DriverOpts":        network(types.NetworkConfig{DriverOpts: map[string]string{"x": ""}}),
	"NetworkConfig.Labels":            network(types.NetworkConfig{Labels: types.Labels{"cc-ci.x": ""}}),
	"IPAMConfig.Driver":               network(types.NetworkConfig{Ipam: types.IPAMConfig{Driver: "x"}}),
	"IPAMConfig.Config":               network(types.NetworkConfig{Ipam: types.IPAMConfig{Config: []*types.IPAMPool{{}}}}),
	"VolumeConfig.Name":               volume(types.VolumeConfig{Name: "ghost_data"}),
	"VolumeConfig.Driver":             volume(types.VolumeConfig{Driver: "nfs"}),
	"VolumeConfig.DriverOpts":         volume(types.VolumeConfig{DriverOpts: map[string]string{"o": "bind"}}),
	"VolumeConfig.Labels":             volume(types.VolumeConfig{Labels: types.Labels{"cc-ci.x": ""}}),
	"VolumeConfig.Spec":               volume(types.VolumeConfig{Spec: &types.ClusterVolumeSpec{}}),
	"External.External":               volume(types.VolumeConfig{External: types.External{External: true}}),
	"CredentialSpecConfig.Config":     func(_ *types.Config, s *types.ServiceConfig) { s.CredentialSpec.Config = "x" },
	"CredentialSpecConfig.File":       func(_ *types.Config, s *types.ServiceConfig) { s.CredentialSpec.File = "x" },
	"CredentialSpecConfig.Registry":   func(_ *types.Config, s *types.ServiceConfig) { s.CredentialSpec.Registry = "x" },
	"FileObjectConfig.Name":           file(types.SecretConfig{Name: "ghost_x"}),
	"FileObjectConfig.File":           file(types.SecretConfig{File: "/etc/passwd"}),
	"FileObjectConfig.Labels":         file(types.SecretConfig{Labels: types.Labels{"cc-ci.x": ""}}),
	"FileObjectConfig.Driver":         file(types.SecretConfig{Driver: "vault"}),
	"FileObjectConfig.DriverOpts":     file(types.SecretConfig{DriverOpts: map[string]string{"a": "b"}}),
	"FileObjectConfig.TemplateDriver": file(types.SecretConfig{TemplateDriver: "x"}),
}

func ptr[T any](v T) *T { return &v }

func mounted(m types.ServiceVolumeConfig) func(*types.Config, *types.ServiceConfig) {
	return func(_ *types.Config, s *types.ServiceConfig) { s.Volumes = []types.ServiceVolumeConfig{m} }
}

func network(n types.NetworkConfig) func(*types.Config, *types.ServiceConfig) {
	return func(c *types.Config, _ *types.ServiceConfig) { c.Networks["x"] = n }
}

func volume(v types.VolumeConfig) func(*types.Config, *types.ServiceConfig) {
	return func(c *types.Config, _ *types.ServiceConfig) { c.Volumes = map[string]types.VolumeConfig{"x": v} }
}

func file(f types.SecretConfig) func(*types.Config, *types.ServiceConfig) {
	return func(c *types.Config, _ *types.ServiceConfig) { c.Secrets = map[string]types.SecretConfig{"x": f} }
}

// The table is true: a hostile value of each judged field is refused by one of its rules.
func TestN3_JudgedFieldsAreRefused(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yml": "version: \"3.8\"\nservices:\n  app:\n    image: a:1\n    networks: [proxy]\nnetworks:\n  proxy: {external: true}\n"})
	for _, f := range fields {
		if len(f.rules) == 0 {
			continue
		}
		set, ok := hostileValues[f.name]
		if !ok {
			t.Errorf("no value shows that %s is judged", f.name)
			continue
		}
		stack := loaded(t, dir, "compose.yml")
		n := stack.Config.Networks["proxy"]
		n.Name = "proxy"
		stack.Config.Networks["proxy"] = n
		if got := Judge(stack, testPolicy()); len(got) != 0 {
			t.Fatalf("refused before: %v", got)
		}
		set(stack.Config, &stack.Config.Services[0])
		refused := false
		for _, r := range Judge(stack, testPolicy()) {
			refused = refused || slices.Contains(f.rules, r.Rule)
		}
		if !refused {
			t.Errorf("a hostile %s is admitted by %v", f.name, f.rules)
		}
	}
}
