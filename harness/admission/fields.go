package admission

import (
	"fmt"
	"strings"
)

// field says what is done about one field of docker/cli's compose model. The model is
// exactly what is deployed, so a field that nobody has thought about is a hole: a test
// walks the types of the library and fails with the name of a field that is not here.
type field struct {
	name   string   // type and field, as the library has it
	rules  []string // that judge it
	reason string   // why it needs no rule, when there is none
}

const (
	notDeployed = "a swarm service has no such setting; it is not deployed"
	container   = "it acts within the container"
	swarmPace   = "it says how swarm starts, stops and replaces tasks of the run"
)

func judged(name string, rules ...string) field  { return field{name: name, rules: rules} }
func harmless(name, reason string) field         { return field{name: name, reason: reason} }
func parent(name string) field                   { return field{name: name, reason: "its fields follow"} }
func unread(typ string, names ...string) []field { return each(typ, notDeployed, names) }

func each(typ, reason string, names []string) []field {
	var out []field
	for _, name := range names {
		out = append(out, harmless(typ+"."+name, reason))
	}
	return out
}

var fields = concat(
	[]field{
		harmless("Config.Filename", "it is the loader's note"),
		harmless("Config.Version", "it chooses the schema"),
		parent("Config.Services"), parent("Config.Networks"), parent("Config.Volumes"), parent("Config.Secrets"), parent("Config.Configs"),
		harmless("Config.Extras", "extension fields are not deployed"),

		judged("ServiceConfig.Name", ruleReservedName, ruleProxyAlias),
		judged("ServiceConfig.CapAdd", ruleCapAdd),
		harmless("ServiceConfig.CapDrop", "it takes rights away"),
		judged("ServiceConfig.CgroupNSMode", ruleCgroup), judged("ServiceConfig.CgroupParent", ruleCgroup),
		judged("ServiceConfig.Command", ruleSize), judged("ServiceConfig.Entrypoint", ruleSize),
		parent("ServiceConfig.Configs"), parent("ServiceConfig.Secrets"),
		parent("ServiceConfig.CredentialSpec"), parent("ServiceConfig.Deploy"),
		judged("ServiceConfig.Devices", ruleDevices),
		judged("ServiceConfig.DNS", ruleDNS), judged("ServiceConfig.DNSSearch", ruleDNS),
		judged("ServiceConfig.Environment", ruleTemplate, ruleSize),
		judged("ServiceConfig.EnvFile", ruleFileOutside, ruleSymlink),
		judged("ServiceConfig.ExtraHosts", ruleExtraHosts),
		judged("ServiceConfig.Hostname", ruleHostname, ruleReservedName, ruleTemplate),
		parent("ServiceConfig.HealthCheck"),
		judged("ServiceConfig.Image", ruleImage),
		judged("ServiceConfig.Ipc", ruleIPC), judged("ServiceConfig.Isolation", ruleIsolation),
		judged("ServiceConfig.Labels", ruleReserved, ruleTraefik, ruleHost, ruleSize),
		parent("ServiceConfig.Logging"),
		judged("ServiceConfig.NetworkMode", ruleNetworkMode),
		parent("ServiceConfig.Networks"),
		judged("ServiceConfig.Pid", rulePID),
		parent("ServiceConfig.Ports"),
		judged("ServiceConfig.Privileged", rulePrivileged),
		judged("ServiceConfig.SecurityOpt", ruleSecurityOpt), judged("ServiceConfig.Sysctls", ruleSysctls),
		judged("ServiceConfig.Ulimits", ruleUlimits),
		judged("ServiceConfig.OomScoreAdj", ruleOOM), judged("ServiceConfig.UserNSMode", ruleUserNS),
		parent("ServiceConfig.Volumes"),
		judged("ServiceConfig.WorkingDir", ruleMountPath),
		harmless("ServiceConfig.Extras", "extension fields are not deployed"),
	},
	each("ServiceConfig", container, []string{"Init", "ReadOnly", "StdinOpen", "Tty", "User"}),
	each("ServiceConfig", swarmPace, []string{"Restart", "StopGracePeriod", "StopSignal"}),
	unread("ServiceConfig", "Build", "ContainerName", "DependsOn", "DomainName", "Expose", "ExternalLinks", "Links", "MacAddress", "ShmSize", "Tmpfs"),
	unread("BuildConfig", "Context", "Dockerfile", "Args", "Labels", "CacheFrom", "ExtraHosts", "Network", "Target"),
	[]field{
		judged("LoggingConfig.Driver", ruleLogging), judged("LoggingConfig.Options", ruleLogging, ruleTemplate),
		judged("DeployConfig.Mode", ruleMode), judged("DeployConfig.Replicas", ruleReplicas, ruleSize),
		judged("DeployConfig.Labels", ruleReserved, ruleTraefik, ruleHost, ruleSize),
		parent("DeployConfig.UpdateConfig"), parent("DeployConfig.RollbackConfig"), parent("DeployConfig.Resources"),
		parent("DeployConfig.RestartPolicy"), parent("DeployConfig.Placement"),
		harmless("DeployConfig.EndpointMode", "it says how names of the run resolve"),
		judged("HealthCheckConfig.Interval", ruleHealth), judged("HealthCheckConfig.StartInterval", ruleHealth),
		judged("HealthCheckConfig.Test", ruleSize),
	},
	each("HealthCheckConfig", container, []string{"Timeout", "Retries", "StartPeriod", "Disable"}),
	each("UpdateConfig", swarmPace, []string{"Parallelism", "Delay", "FailureAction", "Monitor", "MaxFailureRatio", "Order"}),
	each("RestartPolicy", swarmPace, []string{"Condition", "Delay", "MaxAttempts", "Window"}),
	each("ResourceLimit", "the deployer gives every service limits, and clamps them", []string{"NanoCPUs", "MemoryBytes", "Pids"}),
	each("Resource", "swarm starts no task that asks for more than there is", []string{"NanoCPUs", "MemoryBytes"}),
	[]field{
		parent("Resources.Limits"), parent("Resources.Reservations"), parent("Resource.GenericResources"),
		parent("GenericResource.DiscreteResourceSpec"),
		judged("DiscreteGenericResource.Kind", ruleDevices),
		harmless("DiscreteGenericResource.Value", "its kind is refused"),
		judged("Placement.Constraints", rulePlacement),
		parent("Placement.Preferences"),
		harmless("Placement.MaxReplicas", swarmPace),
		harmless("PlacementPreferences.Spread", swarmPace),
		judged("ServiceNetworkConfig.Aliases", ruleProxyAlias, ruleReservedName),
		judged("ServiceNetworkConfig.DriverOpts", ruleNetworkDriver),
		judged("ServiceNetworkConfig.Ipv4Address", ruleNetworkDriver), judged("ServiceNetworkConfig.Ipv6Address", ruleNetworkDriver),
		judged("ServicePortConfig.Target", rulePort), judged("ServicePortConfig.Published", rulePort),
		harmless("ServicePortConfig.Mode", "every port is refused"), harmless("ServicePortConfig.Protocol", "every port is refused"),

		judged("VolumeConfig.Type", ruleBind, ruleMountType), // of a mount: volumespec.VolumeConfig
		judged("VolumeConfig.Source", ruleVolume, ruleSocket, ruleTemplate),
		judged("VolumeConfig.Target", ruleMountPath, ruleSocket, ruleTemplate),
		harmless("VolumeConfig.ReadOnly", "it takes rights away; a waiver of what is mounted states it"), harmless("VolumeConfig.Consistency", "Linux ignores it"),
		parent("VolumeConfig.Bind"), parent("VolumeConfig.Volume"), parent("VolumeConfig.Image"), parent("VolumeConfig.Tmpfs"), parent("VolumeConfig.Cluster"),
		harmless("BindOpts.Propagation", "every bind mount is refused"),
		harmless("VolumeOpts.NoCopy", "tasks copy nothing into volumes with a name; cc-ci fills new ones before"), judged("VolumeOpts.Subpath", ruleMountPath),
		harmless("ImageOpts.Subpath", "every mount of an image is refused"),
		harmless("TmpFsOpts.Size", "the deployer clamps it"),

		harmless("FileReferenceConfig.Source", "what it names is judged"), judged("FileReferenceConfig.Target", ruleMountPath),
		harmless("FileReferenceConfig.UID", container), harmless("FileReferenceConfig.GID", container), harmless("FileReferenceConfig.Mode", container),
		judged("UlimitsConfig.Single", ruleUlimits), judged("UlimitsConfig.Soft", ruleUlimits), judged("UlimitsConfig.Hard", ruleUlimits),

		judged("NetworkConfig.Name", ruleNetwork, ruleForeignName), judged("NetworkConfig.Driver", ruleNetworkDriver),
		judged("NetworkConfig.DriverOpts", ruleNetworkDriver), parent("NetworkConfig.Ipam"), parent("NetworkConfig.External"),
		harmless("NetworkConfig.Internal", "it takes the way out away"),
		harmless("NetworkConfig.Attachable", "only who speaks to the daemon can attach"),
		judged("NetworkConfig.Labels", ruleReserved), harmless("NetworkConfig.Extras", "extension fields are not deployed"),
		judged("IPAMConfig.Driver", ruleNetworkDriver), judged("IPAMConfig.Config", ruleNetworkDriver),
		harmless("IPAMPool.Subnet", "every pool is refused"),

		judged("VolumeConfig.Name", ruleVolume, ruleForeignName), judged("VolumeConfig.Driver", ruleVolumeDriver), judged("VolumeConfig.DriverOpts", ruleVolumeDriver, ruleSocket),
		parent("VolumeConfig.External"), judged("VolumeConfig.Labels", ruleReserved, ruleTemplate),
		harmless("VolumeConfig.Extras", "extension fields are not deployed"), judged("VolumeConfig.Spec", ruleVolumeDriver),

		judged("External.External", ruleNetwork, ruleVolume, ruleSecret, ruleConfig),
		harmless("External.Name", "the loader moves it to the name of the object"),
		judged("CredentialSpecConfig.Config", ruleCredential), judged("CredentialSpecConfig.File", ruleCredential), judged("CredentialSpecConfig.Registry", ruleCredential),

		judged("FileObjectConfig.Name", ruleConfig, ruleSecret, ruleForeignName), judged("FileObjectConfig.File", ruleFileOutside, ruleSymlink),
		parent("FileObjectConfig.External"), judged("FileObjectConfig.Labels", ruleReserved),
		harmless("FileObjectConfig.Extras", "extension fields are not deployed"),
		judged("FileObjectConfig.Driver", ruleFileDriver), judged("FileObjectConfig.DriverOpts", ruleFileDriver),
		judged("FileObjectConfig.TemplateDriver", ruleFileDriver, ruleTemplate),
	},
)

func concat(lists ...[]field) []field {
	var out []field
	for _, list := range lists {
		out = append(out, list...)
	}
	return out
}

// docFields prints what is done about each field of the compose model.
func docFields() string {
	var b strings.Builder
	b.WriteString("\n## Fields of the model\n\nEvery field of the compose model, by its name in docker/cli, and what is done about it.\n\n| Field | Judged by, or why not |\n|---|---|\n")
	for _, f := range fields {
		what := f.reason
		if len(f.rules) > 0 {
			what = "`" + strings.Join(f.rules, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.name, what)
	}
	return b.String()
}
