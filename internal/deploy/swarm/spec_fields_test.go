package swarm

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/recipe-maintainers/cc-ci/harness/recipe"
	"github.com/recipe-maintainers/cc-ci/internal/deploy/deploytest"
)

// What the daemon is told is made of the compose model, whose fields admission judges
// (harness/admission/fields.go). These tests close the other end: each field of a
// specification is made of fields of the model, set by cc-ci, or never set.

// madeOf are the fields that come from the compose model, with the field there.
var madeOf = map[string]string{
	"swarm.Annotations.Name": "ServiceConfig.Name, or the name of the object", "swarm.Annotations.Labels": "Labels of both kinds",
	"swarm.ContainerSpec.Image": "Image", "swarm.ContainerSpec.Labels": "ServiceConfig.Labels", "swarm.ContainerSpec.Command": "Entrypoint",
	"swarm.ContainerSpec.Args": "Command", "swarm.ContainerSpec.Hostname": "Hostname", "swarm.ContainerSpec.Env": "Environment",
	"swarm.ContainerSpec.Dir": "WorkingDir", "swarm.ContainerSpec.User": "User", "swarm.ContainerSpec.Init": "Init",
	"swarm.ContainerSpec.StopSignal": "StopSignal", "swarm.ContainerSpec.TTY": "Tty", "swarm.ContainerSpec.OpenStdin": "StdinOpen",
	"swarm.ContainerSpec.ReadOnly": "ReadOnly", "swarm.ContainerSpec.Mounts": "Volumes", "swarm.ContainerSpec.StopGracePeriod": "StopGracePeriod",
	"swarm.ContainerSpec.Healthcheck": "HealthCheck", "swarm.ContainerSpec.Hosts": "ExtraHosts", "swarm.ContainerSpec.DNSConfig": "DNS, DNSSearch",
	"swarm.DNSConfig.Nameservers": "DNS", "swarm.DNSConfig.Search": "DNSSearch", "swarm.ContainerSpec.Secrets": "Secrets",
	"swarm.ContainerSpec.Configs": "Configs", "swarm.ContainerSpec.Isolation": "Isolation", "swarm.ContainerSpec.Sysctls": "Sysctls",
	"swarm.ContainerSpec.CapabilityAdd": "CapAdd", "swarm.ContainerSpec.CapabilityDrop": "CapDrop", "swarm.ContainerSpec.Ulimits": "Ulimits",
	"swarm.ContainerSpec.OomScoreAdj": "OomScoreAdj",
	"mount.Mount.Type":                "VolumeConfig.Type", "mount.Mount.Source": "VolumeConfig.Source", "mount.Mount.Target": "VolumeConfig.Target",
	"mount.Mount.ReadOnly": "VolumeConfig.ReadOnly", "mount.Mount.Consistency": "VolumeConfig.Consistency", "mount.Mount.BindOptions": "VolumeConfig.Bind",
	"mount.BindOptions.Propagation": "BindOpts.Propagation", "mount.Mount.VolumeOptions": "VolumeConfig.Volume", "mount.VolumeOptions.NoCopy": "VolumeOpts.NoCopy",
	"mount.VolumeOptions.Labels": "VolumeConfig.Labels", "mount.VolumeOptions.Subpath": "VolumeOpts.Subpath", "mount.VolumeOptions.DriverConfig": "VolumeConfig.Driver",
	"mount.Driver.Name": "VolumeConfig.Driver", "mount.Driver.Options": "VolumeConfig.DriverOpts", "mount.Mount.TmpfsOptions": "VolumeConfig.Tmpfs",
	"mount.TmpfsOptions.SizeBytes":     "TmpFsOpts.Size",
	"swarm.SecretReference.SecretName": "Secrets", "swarm.SecretReference.File": "FileReferenceConfig", "swarm.SecretReferenceFileTarget.Name": "FileReferenceConfig.Target",
	"swarm.SecretReferenceFileTarget.UID": "FileReferenceConfig.UID", "swarm.SecretReferenceFileTarget.GID": "FileReferenceConfig.GID", "swarm.SecretReferenceFileTarget.Mode": "FileReferenceConfig.Mode",
	"swarm.ConfigReference.ConfigName": "Configs", "swarm.ConfigReference.File": "FileReferenceConfig", "swarm.ConfigReferenceFileTarget.Name": "FileReferenceConfig.Target",
	"swarm.ConfigReferenceFileTarget.UID": "FileReferenceConfig.UID", "swarm.ConfigReferenceFileTarget.GID": "FileReferenceConfig.GID", "swarm.ConfigReferenceFileTarget.Mode": "FileReferenceConfig.Mode",
	"units.Ulimit.Name": "Ulimits", "units.Ulimit.Hard": "UlimitsConfig.Hard", "units.Ulimit.Soft": "UlimitsConfig.Soft",
	"swarm.ServiceSpec.Annotations": "ServiceConfig", "swarm.ServiceSpec.TaskTemplate": "ServiceConfig", "swarm.ServiceSpec.Mode": "DeployConfig.Mode",
	"swarm.ServiceSpec.UpdateConfig": "UpdateConfig", "swarm.ServiceSpec.RollbackConfig": "UpdateConfig", "swarm.ServiceSpec.EndpointSpec": "DeployConfig.EndpointMode, Ports",
	"swarm.TaskSpec.ContainerSpec": "ServiceConfig", "swarm.TaskSpec.Resources": "Resources", "swarm.TaskSpec.RestartPolicy": "RestartPolicy, Restart",
	"swarm.TaskSpec.Placement": "Placement", "swarm.TaskSpec.Networks": "Networks", "swarm.TaskSpec.LogDriver": "LoggingConfig",
	"swarm.Driver.Name": "LoggingConfig.Driver, FileObjectConfig.TemplateDriver", "swarm.Driver.Options": "LoggingConfig.Options",
	"swarm.ResourceRequirements.Limits": "Resources.Limits", "swarm.ResourceRequirements.Reservations": "Resources.Reservations",
	"swarm.Limit.NanoCPUs": "ResourceLimit.NanoCPUs", "swarm.Limit.MemoryBytes": "ResourceLimit.MemoryBytes", "swarm.Limit.Pids": "ResourceLimit.Pids",
	"swarm.Resources.NanoCPUs": "Resource.NanoCPUs", "swarm.Resources.MemoryBytes": "Resource.MemoryBytes", "swarm.Resources.GenericResources": "Resource.GenericResources",
	"swarm.GenericResource.DiscreteResourceSpec": "GenericResource", "swarm.DiscreteGenericResource.Kind": "DiscreteGenericResource.Kind", "swarm.DiscreteGenericResource.Value": "DiscreteGenericResource.Value",
	"swarm.RestartPolicy.Condition": "RestartPolicy.Condition, Restart", "swarm.RestartPolicy.Delay": "RestartPolicy.Delay", "swarm.RestartPolicy.MaxAttempts": "RestartPolicy.MaxAttempts",
	"swarm.RestartPolicy.Window": "RestartPolicy.Window", "swarm.Placement.Constraints": "Placement.Constraints", "swarm.Placement.Preferences": "Placement.Preferences",
	"swarm.PlacementPreference.Spread": "PlacementPreferences", "swarm.SpreadOver.SpreadDescriptor": "PlacementPreferences.Spread", "swarm.Placement.MaxReplicas": "Placement.MaxReplicas",
	"swarm.NetworkAttachmentConfig.Target": "Networks", "swarm.NetworkAttachmentConfig.Aliases": "ServiceNetworkConfig.Aliases, ServiceConfig.Name", "swarm.NetworkAttachmentConfig.DriverOpts": "ServiceNetworkConfig.DriverOpts",
	"swarm.ServiceMode.Replicated": "DeployConfig.Mode", "swarm.ServiceMode.Global": "DeployConfig.Mode", "swarm.ServiceMode.ReplicatedJob": "DeployConfig.Mode", "swarm.ServiceMode.GlobalJob": "DeployConfig.Mode",
	"swarm.ReplicatedService.Replicas": "DeployConfig.Replicas", "swarm.ReplicatedJob.MaxConcurrent": "DeployConfig.Replicas", "swarm.ReplicatedJob.TotalCompletions": "DeployConfig.Replicas",
	"swarm.UpdateConfig.Parallelism": "UpdateConfig.Parallelism", "swarm.UpdateConfig.Delay": "UpdateConfig.Delay", "swarm.UpdateConfig.FailureAction": "UpdateConfig.FailureAction",
	"swarm.UpdateConfig.Monitor": "UpdateConfig.Monitor", "swarm.UpdateConfig.MaxFailureRatio": "UpdateConfig.MaxFailureRatio", "swarm.UpdateConfig.Order": "UpdateConfig.Order",
	"swarm.EndpointSpec.Mode": "DeployConfig.EndpointMode", "swarm.EndpointSpec.Ports": "Ports", "swarm.PortConfig.Protocol": "ServicePortConfig.Protocol",
	"swarm.PortConfig.TargetPort": "ServicePortConfig.Target", "swarm.PortConfig.PublishedPort": "ServicePortConfig.Published", "swarm.PortConfig.PublishMode": "ServicePortConfig.Mode",
	"network.CreateOptions.Driver": "NetworkConfig.Driver", "network.CreateOptions.IPAM": "NetworkConfig.Ipam", "network.CreateOptions.Internal": "NetworkConfig.Internal",
	"network.CreateOptions.Attachable": "NetworkConfig.Attachable", "network.CreateOptions.Options": "NetworkConfig.DriverOpts", "network.CreateOptions.Labels": "NetworkConfig.Labels",
	"network.IPAM.Driver": "IPAMConfig.Driver", "network.IPAM.Config": "IPAMConfig.Config", "network.IPAMConfig.Subnet": "IPAMPool.Subnet",
	"swarm.ConfigSpec.Annotations": "FileObjectConfig", "swarm.ConfigSpec.Data": "FileObjectConfig.File, read at rendering", "swarm.ConfigSpec.Templating": "FileObjectConfig.TemplateDriver",
	"swarm.SecretSpec.Annotations": "FileObjectConfig", "swarm.SecretSpec.Data": "FileObjectConfig.File, or a generated value", "swarm.SecretSpec.Templating": "FileObjectConfig.TemplateDriver",
}

// setByUs are the fields whose values cc-ci chooses.
var setByUs = []string{
	"network.CreateOptions.Scope", "swarm.SecretReference.SecretID", "swarm.ConfigReference.ConfigID", "swarm.TaskSpec.ForceUpdate",
	"mount.TmpfsOptions.Mode", "swarm.ContainerSpec.Privileges", "swarm.Privileges.NoNewPrivileges",
}

// neverSet are the fields of which a recipe and cc-ci set none: nothing judges them.
var neverSet = []string{
	"swarm.ContainerSpec.Groups", "swarm.Privileges.CredentialSpec", "swarm.Privileges.SELinuxContext", "swarm.Privileges.Seccomp", "swarm.Privileges.AppArmor",
	"mount.BindOptions.NonRecursive", "mount.BindOptions.CreateMountpoint", "mount.BindOptions.ReadOnlyNonRecursive", "mount.BindOptions.ReadOnlyForceRecursive",
	"mount.Mount.ImageOptions", "mount.Mount.ClusterOptions", "mount.TmpfsOptions.Options", "swarm.DNSConfig.Options", "swarm.ConfigReference.Runtime",
	"swarm.TaskSpec.PluginSpec", "swarm.TaskSpec.NetworkAttachmentSpec", "swarm.TaskSpec.Runtime", "swarm.GenericResource.NamedResourceSpec",
	"swarm.Placement.Platforms", "swarm.ServiceSpec.Networks", "swarm.PortConfig.Name", "network.CreateOptions.EnableIPv4", "network.CreateOptions.EnableIPv6",
	"network.CreateOptions.Ingress", "network.CreateOptions.ConfigOnly", "network.CreateOptions.ConfigFrom", "network.IPAM.Options", "network.IPAMConfig.IPRange",
	"network.IPAMConfig.Gateway", "network.IPAMConfig.AuxAddress", "swarm.SecretSpec.Driver",
}

var createdTypes = []reflect.Type{
	reflect.TypeFor[swarm.ServiceSpec](), reflect.TypeFor[network.CreateOptions](), reflect.TypeFor[swarm.ConfigSpec](), reflect.TypeFor[swarm.SecretSpec](),
}

// specFields lists the fields of what is created, but those below fields that are never set.
func specFields() []string {
	var names []string
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(t.Elem())
		case reflect.Struct:
			if seen[t] || !strings.HasPrefix(t.PkgPath(), "github.com/docker/") {
				return
			}
			seen[t] = true
			for i := range t.NumField() {
				name := t.String() + "." + t.Field(i).Name
				names = append(names, name)
				if !slices.Contains(neverSet, name) {
					walk(t.Field(i).Type)
				}
			}
		}
	}
	for _, t := range createdTypes {
		walk(t)
	}
	return names
}

func TestN3_EveryFieldOfASpecificationIsDealtWith(t *testing.T) {
	known := map[string]bool{}
	for name := range madeOf {
		known[name] = true
	}
	for _, name := range slices.Concat(setByUs, neverSet) {
		if known[name] {
			t.Errorf("%s stands in two tables", name)
		}
		known[name] = true
	}
	for _, name := range specFields() {
		if !known[name] {
			t.Errorf("nothing is known about the field %s: say what it is made of, or that it is never set", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("a specification has no field %s any more", name)
	}
}

// A stack with every key of a compose file sets none of the fields that are never set.
func TestN3_FieldsThatNothingJudgesAreNeverSet(t *testing.T) {
	text, err := os.ReadFile("testdata/convert/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	m := modelOf(t, deploytest.Stack(t, "full_ci_test", "/recipe", string(text)))
	set := map[string]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			if !strings.HasPrefix(v.Type().PkgPath(), "github.com/docker/") {
				return
			}
			for i := range v.NumField() {
				if !v.Field(i).IsZero() {
					set[v.Type().String()+"."+v.Type().Field(i).Name] = true
					walk(v.Field(i))
				}
			}
		}
	}
	for _, s := range m.services {
		walk(reflect.ValueOf(s.spec))
	}
	for _, n := range m.networks {
		walk(reflect.ValueOf(n))
	}
	if !set["swarm.ContainerSpec.Image"] || !set["network.CreateOptions.Driver"] {
		t.Fatalf("nothing was walked: %v", set)
	}
	for _, name := range neverSet {
		if set[name] {
			t.Errorf("%s is set, and nothing judges it", name)
		}
	}
}

// modelOf is the model of a stack, as Deploy makes it.
func modelOf(t testing.TB, stack *recipe.Stack) *model {
	t.Helper()
	m, err := convert(stack, nil, "260102-030405-abcdef", false, "proxy", Ceilings{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
