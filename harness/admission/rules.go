package admission

import (
	"fmt"
	"slices"
	"strings"
)

// RuleDoc describes one rule, for docs/admission.md and for messages.
type RuleDoc struct {
	Name     string // as refusals and waivers write it
	What     string // what is refused
	Why      string // what it would allow
	Waivable bool   // whether a waiver can lift it
}

// Names of the rules of the model.
const (
	rulePrivileged    = "privileged"
	ruleCapAdd        = "cap-add"
	ruleDevices       = "devices"
	ruleNetworkMode   = "network-mode"
	rulePID           = "pid"
	ruleIPC           = "ipc"
	ruleUserNS        = "userns"
	ruleSecurityOpt   = "security-opt"
	ruleSysctls       = "sysctls"
	ruleCgroup        = "cgroup-parent"
	ruleCredential    = "credential-spec"
	ruleIsolation     = "isolation"
	ruleRuntime       = "runtime"
	ruleSocket        = "docker-socket"
	ruleBind          = "bind-mount"
	ruleMountType     = "mount-type"
	ruleVolumeDriver  = "volume-driver"
	ruleVolume        = "foreign-volume"
	ruleNetwork       = "foreign-network"
	ruleForeignName   = "foreign-name"
	ruleNetworkDriver = "network-driver"
	ruleProxyAlias    = "proxy-alias"
	ruleSecret        = "foreign-secret"
	ruleConfig        = "foreign-config"
	ruleFileDriver    = "file-driver"
	ruleFileOutside   = "file-outside"
	ruleSymlink       = "symlink"
	rulePort          = "published-port"
	ruleHost          = "foreign-host"
	ruleMiddleware    = "foreign-middleware"
	ruleTraefik       = "traefik-label"
	ruleUsers         = "proxy-users"
	ruleLabelKey      = "label-key"
	ruleNamespace     = "label-namespace"
	ruleReserved      = "reserved-label"
	ruleBackupPath    = "backup-path"
	rulePlacement     = "placement"
	ruleReplicas      = "replicas"
	ruleExtraHosts    = "extra-hosts"
	ruleLogging       = "logging"
	ruleOOM           = "oom-score"
	ruleControlVar    = "control-variable"
	ruleWaiver        = "waiver"
	ruleHostname      = "hostname"
	ruleReservedName  = "reserved-name"
	ruleTemplate      = "template"
	ruleImage         = "image"
	ruleDNS           = "dns"
	ruleUlimits       = "ulimits"
	ruleMode          = "mode"
	ruleMountPath     = "mount-path"
	ruleHealth        = "healthcheck"
	ruleSize          = "stack-size"
)

var ruleDocs = []RuleDoc{
	{rulePrivileged, "`privileged: true`", "It gives every right over the machine.", true},
	{ruleCapAdd, "`cap_add` beyond CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, NET_BIND_SERVICE, SETGID, SETUID and SYS_CHROOT", "Services have these and no others. Most others lead to the host or to neighbours.", true},
	{ruleDevices, "`devices`, and generic resources such as GPUs", "Devices belong to the machine, not to one app.", true},
	{ruleNetworkMode, "`network_mode` other than bridge, default or none", "The host's network reaches every internal service.", true},
	{rulePID, "`pid` other than private", "The host's processes can be read and killed.", true},
	{ruleIPC, "`ipc` other than private, shareable or none", "The host's shared memory can be read.", true},
	{ruleUserNS, "`userns_mode`", "It switches the daemon's user remapping off.", true},
	{ruleSecurityOpt, "`security_opt` other than no-new-privileges", "It switches seccomp, AppArmor or labels off.", true},
	{ruleSysctls, "`sysctls` other than net.core.somaxconn, net.ipv4.ip_unprivileged_port_start, net.ipv4.ip_local_port_range, the keepalive and queue settings of net.ipv4.tcp_*, each within the bounds of the kernel or less, and net.ipv6.conf.{all,default,lo}.disable_ipv6=1", "Others reach beyond the container's network, or change what the firewall relies on.", true},
	{ruleCgroup, "`cgroup_parent` and `cgroupns_mode: host`", "It escapes the limits of the run.", true},
	{ruleCredential, "`credential_spec`", "It names files and registry keys of the host.", true},
	{ruleIsolation, "`isolation` other than default", "It changes how the container is confined.", true},
	{ruleRuntime, "`runtime`", "Another runtime may confine less.", true},
	{ruleSocket, "any path to a Docker, containerd, Podman or CRI-O socket or data folder, in mounts, driver options and files", "Whoever speaks to the daemon is root.", true},
	{ruleBind, "bind mounts, `<path>:<target>:<ro or rw>`, with the propagation if it is not rprivate", "They read and write the host's files.", true},
	{ruleMountType, "mounts other than volume and tmpfs", "There is no check for them.", true},
	{ruleVolumeDriver, "volume drivers other than local, `driver_opts`, cluster volumes", "Options turn a named volume into a bind mount or a network share.", true},
	{ruleVolume, "`external` volumes whose name does not begin with the stack's name, each with `:ro` or `:rw`", "Another app's data would be mounted.", true},
	{ruleForeignName, "volumes, networks, configs and secrets that the recipe declares as its own, without `external`, under a name that does not begin with the stack's name", "Another's would be taken for the run's own, and the teardown would remove it.", false},
	{ruleNetwork, "`external` networks of other stacks and of the host; the proxy's network is allowed", "Other apps would be reachable from inside.", true},
	{ruleNetworkDriver, "network drivers other than overlay, driver options, own subnets", "macvlan and host networks bypass the swarm; subnets of two runs collide.", true},
	{ruleProxyAlias, "aliases, on networks that are not the run's own, other than the app's hosts and names that begin with the stack's; there also service keys with a dot and keys that look like another run's", "Another app's name would resolve to this one.", true},
	{ruleHostname, "`hostname` of a service on a network that is not the run's own, other than its key, the app's hosts and names that begin with the stack's", "Another app's name would resolve to this one.", true},
	{ruleReservedName, "service keys, aliases and host names that are those of cc-ci's own services, `cc-ci` and `cc-ci_…` in any case; names that are not made of letters, digits, hyphens, underscores and dots; keys of services, volumes, networks, configs and secrets that begin with a dot or a hyphen", "The proxy finds its configuration by such a name; paths are made of keys.", false},
	{ruleSecret, "`external` secrets whose name does not begin with the stack's name", "Another app's secret would be read.", true},
	{ruleConfig, "`external` configs whose name does not begin with the stack's name", "Another app's configuration would be read.", true},
	{ruleFileDriver, "drivers of configs and secrets; template drivers other than golang", "A driver fetches values from elsewhere.", true},
	{ruleFileOutside, "`file:` and `env_file:` outside the recipe, or within .git; `include:`", "They would read the host's files, or what nobody judges.", false},
	{ruleSymlink, "`file:`, `env_file:` and bind mounts of folders of the recipe through a symbolic link", "A link leads out of the recipe.", false},
	{rulePort, "published ports, `<published or any>:<target>/<protocol>`", "Ports of the machine are shared by all runs; apps are reached through the proxy.", true},
	{ruleHost, "router rules that match, or cannot be proven not to match, hosts other than the run's own and names below them; rules without a host, except HostSNI(`*`) of a TCP router on further entrypoints of the host; UDP routers; certificates for other hosts", "Other apps' visitors would be served by this one.", true},
	{ruleMiddleware, "middlewares of other stacks, `@file` ones except security, keycloak and basicauth, and own ones that read files or call other hosts", "The proxy would act with rights that are not the recipe's.", true},
	{ruleTraefik, "Traefik labels that choose another network, or another stack's or an internal service; every option that is not on the list below, and values that its check does not admit", "They change the proxy for everybody, or make it call others.", true},
	{ruleUsers, "`basicauth` and `digestauth` without users", "The proxy applies no further change of any app until it is restarted.", false},
	{ruleLabelKey, "`traefik.` labels whose key is not made of names of letters, digits, hyphens and underscores, with an index such as [0] where there is a list", "At some of them the proxy's parser fails for all apps, until it is restarted.", false},
	{ruleNamespace, "routers, services and middlewares whose name does not begin with the stack's name; `coop-cloud.` labels of other stacks", "Names are shared by all apps of the proxy.", true},
	{ruleReserved, "labels `cc-ci.*`, `com.docker.stack.*` and `com.docker.swarm.*`", "Teardown and its proof go by them.", false},
	{ruleBackupPath, "backup paths that lead out of the volume; one as the containers see it (`/data/dump` for `dump`) fails the stage backup instead", "The backup would read outside the volume.", false},
	{rulePlacement, "placement constraints other than on node.role and node.platform", "A run does not choose its machine.", true},
	{ruleMode, "`deploy.mode` other than replicated and global", "Tasks of a job stay in the swarm after their service.", true},
	{ruleReplicas, "more than 20 replicas", "One run would take the whole machine.", true},
	{ruleExtraHosts, "`extra_hosts` with anything but one public address: no host-gateway, no loopback, link-local, private or other special range", "It names the machine itself, or a network around it.", true},
	{ruleDNS, "`dns` with anything but public addresses, `dns_search` with anything but domains", "Name servers within a network answer with its inner names.", true},
	{ruleImage, "images of registries without a public name (addresses, localhost, names of one word, .local and .internal), and images by their ID", "The daemon itself would ask there, from the machine's own address.", true},
	{ruleUlimits, "`ulimits` beyond nofile 1048576, nproc 65536 and msgqueue 819200; rtprio, nice and rttime", "They are limits of the machine, not of one container.", true},
	{ruleMountPath, "targets of volumes, configs and secrets, also those that a recipe leaves to Docker, that hold .., are / or lie in /proc, /sys or /dev (except /dev/shm); working_dir in these; targets within a volume on whose way a service can put a link; volume subpaths that leave the volume", "They replace what confines a container, or leave it. See places in volumes, below.", true},
	{ruleHealth, "healthchecks more often than once a second", "The daemon starts a process for each.", true},
	{ruleTemplate, "Go templates in environment, hostname, mounts and logging options, except fields of the task; in configs and secrets with a template driver everything but conditions, env, secret, config, comparisons and plain printing", "The daemon evaluates them, and a few lines can fill its memory.", false},
	{ruleLogging, "logging drivers other than json-file, local, journald and none (json-file stands in place of the last two); none for a service with secrets; options other than max-size, max-file, compress, labels, env, tag and mode", "The daemon itself would connect elsewhere, and the run's logs would be lost.", true},
	{ruleOOM, "a negative `oom_score_adj`", "Other processes would be killed first.", true},
	{ruleControlVar, "variables in env files and abra.sh that steer tools on the host (DOCKER_HOST, COMPOSE_* except COMPOSE_FILE, PATH, LD_PRELOAD …), and a STACK_NAME or DOMAIN of another app", "Tools of operators read these files.", true},
	{ruleWaiver, "a waiver that names no rule of this table, or a rule that cannot be waived", "It lifts nothing.", false},
	{ruleSize, fmt.Sprintf("more than %d services, %d tasks, %d volumes, %d networks, %d configs, %d secrets, 60 compose files; more than %d MiB of configs and secrets in the containers of all tasks, with templates at their longest; of one service more than %d labels, %d KiB of labels, %d KiB of environment; of one router more than %d middlewares, of all %d, those of chains counted for each reference", maxServices, maxTasks, maxVolumes, maxNetworks, maxConfigs, maxSecrets, maxFileMemory>>20, maxLabels, maxLabelBytes>>10, maxEnvBytes>>10, maxMiddlewares, maxMiddlewareSum), "One run would take the whole machine.", false},
	{"yaml-size", "a compose file over 128 KiB, or 512 KiB together", "Nobody can review it.", false},
	{"yaml-depth", "nesting beyond 24 levels", "Loaders recurse.", false},
	{"yaml-aliases", "more than 200 aliases, or an alias within what it names", "Loaders expand them.", false},
	{"yaml-expansion", "aliases that expand to more than 20000 values; texts that come to more than 2 MiB with variables filled in", "A few lines would fill the memory.", false},
	{"yaml-keys", "repeated keys, keys that are not text, and << in quotes", "Loaders disagree about which one counts.", false},
	{"yaml-documents", "several documents in one file", "Loaders read one and drop the rest.", false},
	{"yaml-tag", "tags before keys, and tags other than str, int, float, bool, null, map and seq; names of anchors that are not made of letters, digits, hyphens and underscores", "Loaders disagree about their meaning.", false},
	{"yaml-text", "control characters, broken UTF-8, bidirectional overrides", "A reviewer would read something else.", false},
}

// Rules returns the table of all rules, in the order of docs/admission.md.
func Rules() []RuleDoc { return slices.Clone(ruleDocs) }

const docHead = `# Admission

This page is printed by ` + "`cc-ci config doc admission`" + `; do not edit it by hand.

A recipe comes from a pull request, and it is a program for the swarm that runs every app of the machine. So it is
judged before anything of it is deployed: first its files, as tools other than swarm honour keys that swarm ignores,
then the model that is going to be deployed, after interpolation, merges and overlays. What cannot be proven harmless
is refused. The run then ends with exit code 4 and nothing was created; the comment names the file and line, the
service, what it asks for, and the rule.

## How to waive a rule

Change the recipe if it can do without. If it cannot, the operator of cc-ci lifts the rule in tests/&lt;recipe&gt;/recipe.yml.
A waiver in the pull request itself has no effect. Below each refusal that can be waived stands the entry for it: copy it,
and fill in reason, owner and expires. A setting that swarm ignores has none: it changes nothing, so remove it.

` + "```yaml" + `
waivers:
  - rule: cap-add                 # the name in the first column below
    service: vpn                  # * for the whole stack
    value: NET_ADMIN              # as the entry below the refusal has it; left out, the one value that is refused; of several it lifts none
    reason: "it is a VPN"         # why, and who is responsible: without both it lifts nothing
    owner: alice
    expires: 2027-03-01           # the last day it holds
` + "```" + `

A value that holds the run's domain or stack, which differ from run to run, names them ` + "`${DOMAIN}` and `${STACK_NAME}`" + `, as the recipe
does and as the entry below the refusal has them. ` + "`{{.Domain}}`" + `, which the other settings of recipe.yml use, is read too, anywhere
in the value; put such a value in quotes. No other variable and no other template is filled in: a pull request could set it.

A value holds all that decides, and lifts nothing more: what a pull request changes beside it is refused. So

- a mount ends in ` + "`:ro` or `:rw`" + `, as ` + "`/srv/wiki:/data:ro`" + `, with the propagation behind it where it is not rprivate (` + "`:ro,rslave`" + `). A waiver
  for ` + "`:rw`" + ` lifts ` + "`:ro`" + ` of the same mount, and never the other way round. The same holds for an external volume (` + "`media:ro`" + `, and
  ` + "`media:music:ro`" + ` for a folder of it) and for the ` + "`driver_opts`" + ` of a volume. In them a ` + "`\\,`" + ` is a comma within an option,
- labels, options of logs and networks, and variables stand there as ` + "`name=value`" + `, a subnet as ` + "`default.ipam=10.0.0.0/24`" + `. In place of a
  password, or of a text that is too long, stands its SHA-256,
- a router's rule is followed by its entrypoints and its priority, where labels set them; an alias or host name by ` + "`@`" + ` and the network.

A waiver without a value lifts whatever the one finding is, also after a pull request has changed it. Name the value wherever it matters.

A waiver that has expired, or whose value or service differs, is named in the refusal. ` + "`cc-ci config check`" + ` refuses one
that has expired, and one of a rule that is not in the table or cannot be waived. Rules with "never" in the last column
cannot be waived: teardown, the proxy or the review of the recipe depends on them.

## The rules

`

const docPlaces = `
## Places in volumes

Docker looks for the place of a mount as a container starts, and follows links. A place within a volume has folders on its way that
apps can change: one that puts a link to / or /dev there decides where the next container gets the mount. No process can
exchange what something is mounted at, in a container that has the mount. So a target within a volume is admitted where each service
that can write the volume mounts something at the first folder of the way, as with

` + "```yaml" + `
volumes:
  - html:/var/www/html
  - uploads:/var/www/html/uploads       # of a second service: html:/var/www/html:ro, or with uploads too
` + "```" + `

A config or a secret in a volume is refused if another service can write the volume, and mounts nothing there.

Links of an image are followed before anything is deployed. What comes to lie where ` + "`mount-path`" + ` refuses it, or exposed in a volume,
fails the check of the images, which names image, link and path. So does a ` + "`VOLUME` or `WORKDIR`" + ` of an image in /proc, /sys or /dev.
`

const docOptions = `
## Options of the proxy

Labels may set these options of Traefik, besides ` + "`traefik.enable`, `traefik.docker.network` and `traefik.docker.lbswarm`" + ` (or swarm in
place of docker). A name begins with ` + "`${STACK_NAME}`" + `. The rule ` + "`traefik-label`" + ` refuses every other option, and values that
make the proxy call another host, read a file or keep more than 2 MiB of a request; a waiver names label and value, as name=value,
with ` + "`${STACK_NAME}`" + ` and ` + "`${DOMAIN}`" + `, as the recipe does. [n] stands for an index, * for one name of the recipe's choice.

Names below the app's own hosts, as ` + "`www.${DOMAIN}`" + `, are admitted, and the browser of a run reaches them. The wildcard
certificate of the host covers one level under its domain, so the proxy serves them with its default certificate; the
result says so. Checks verify that certificate for the app's own name.

`

// Doc returns docs/admission.md: how a recipe is judged, and the table of all rules.
func Doc() string {
	var b strings.Builder
	b.WriteString(docHead + "| Rule | Refused | Why | Waiver |\n|---|---|---|---|\n")
	for _, r := range ruleDocs {
		waiver := "never"
		if r.Waivable {
			waiver = "possible"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Name, strings.ReplaceAll(r.What, "|", `\|`), r.Why, waiver)
	}
	b.WriteString(docPlaces + docOptions)
	for _, kind := range sorted(optionTable) {
		protocol, objects, _ := strings.Cut(kind, ".")
		fmt.Fprintf(&b, "- `traefik.%s.%s.<name>.`: `%s`\n", protocol, objects, strings.Join(sorted(optionTable[kind]), "`, `"))
	}
	b.WriteString(docFields())
	return b.String()
}

func ruleDoc(name string) (RuleDoc, bool) {
	i := slices.IndexFunc(ruleDocs, func(r RuleDoc) bool { return r.Name == name })
	if i < 0 {
		return RuleDoc{}, false
	}
	return ruleDocs[i], true
}
