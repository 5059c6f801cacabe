package recipe

import (
	"cmp"
	"errors"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// Names of the labels of backup-bot-two, version 2 of their contract.
const (
	BackupEnable      = "backupbot.backup"
	BackupPreHook     = "backupbot.backup.pre-hook"
	BackupPostHook    = "backupbot.backup.post-hook"
	RestorePreHook    = "backupbot.restore.pre-hook"
	RestorePostHook   = "backupbot.restore.post-hook"
	backupPrefix      = "backupbot."
	backupVolumes     = "backupbot.backup.volumes."
	backupV1Path      = "backupbot.backup.path"
	backupV1Command   = "backupbot.backup.command"
	longestLabelQuote = 200 // bytes of a value in a message
)

// BackupKind is what a backup label is about.
type BackupKind int

const (
	BackupUnknown BackupKind = iota // not part of the contract
	BackupSwitch                    // switches the stack's backup on or off
	BackupVolume                    // takes or excludes a volume
	BackupPaths                     // limits what is taken of a volume
	BackupHook                      // a command; the key says which
	BackupV1                        // of version 1 of the contract, without effect
)

// BackupLabel is one label of a service that begins with backupbot.
type BackupLabel struct {
	Kind       BackupKind
	Key, Value string
	Volume     string   // key in the compose file, of BackupVolume and BackupPaths
	On         bool     // of BackupSwitch and BackupVolume
	Empty      bool     // the value is empty, as an unset variable leaves it
	Paths      []string // of BackupPaths: clean, relative to the volume's root
}

// BackupLabels reads a service's backup labels, in the order of their keys. It is the only
// reading of them: what is judged is what is carried out. A label whose value cannot
// be read is an Error with CodeRecipe that names service, label, value and what is allowed;
// labels after it are not read.
func (s *Stack) BackupLabels(service string, labels map[string]string) ([]BackupLabel, error) {
	var all []BackupLabel
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !strings.HasPrefix(key, backupPrefix) {
			continue
		}
		label, err := s.backupLabel(service, key, strings.TrimSpace(labels[key]))
		if err != nil {
			return all, err
		}
		all = append(all, label)
	}
	return all, nil
}

func (s *Stack) backupLabel(service, key, value string) (BackupLabel, error) {
	label := BackupLabel{Key: key, Value: value, Empty: value == ""}
	var err error
	switch {
	case key == BackupEnable:
		label.Kind = BackupSwitch
		label.On, err = readSwitch(service, key, value, false)
	case key == BackupPreHook, key == BackupPostHook, key == RestorePreHook, key == RestorePostHook:
		label.Kind = BackupHook
	case key == backupV1Path, key == backupV1Command:
		label.Kind = BackupV1
	case strings.HasPrefix(key, backupVolumes):
		// A volume's key may hold dots and end in .path itself, so known keys come first.
		name := strings.TrimPrefix(key, backupVolumes)
		if before, isPath := strings.CutSuffix(name, ".path"); isPath && !s.hasVolume(name) {
			label.Kind, label.Volume = BackupPaths, before
			label.Paths, err = readPaths(service, key, value, s.targetsOf(before))
			break
		}
		label.Kind, label.Volume = BackupVolume, name
		label.On, err = readSwitch(service, key, value, true)
	}
	return label, err
}

// hasVolume reports whether the stack declares or mounts a named volume.
func (s *Stack) hasVolume(key string) bool {
	if s.Config == nil {
		return false
	}
	if _, ok := s.Config.Volumes[key]; ok {
		return true
	}
	for _, svc := range s.Config.Services {
		for _, m := range svc.Volumes {
			if m.Type == "volume" && m.Source == key {
				return true
			}
		}
	}
	return false
}

// readSwitch reads a boolean label. An unset variable leaves it empty; then it counts as def.
func readSwitch(service, key, value string, def bool) (bool, error) {
	if value == "" {
		return def, nil
	}
	on, err := strconv.ParseBool(strings.ToLower(value))
	if err != nil {
		return false, unreadable(service, key, value, errNoSwitch).WithHint("write true or false")
	}
	return on, nil
}

// ErrOutsideVolume says that a label names a path which is not within its volume.
var ErrOutsideVolume = errors.New("names a path outside of the volume")

// WithinVolume returns a path of a label clean; false when it leads out of the volume.
func WithinVolume(item string) (clean string, ok bool) {
	clean = path.Clean(strings.TrimSpace(item))
	return clean, !path.IsAbs(clean) && clean != ".." && !strings.HasPrefix(clean, "../") && !strings.ContainsRune(clean, 0)
}

// targetsOf lists where services mount a volume.
func (s *Stack) targetsOf(volume string) []string {
	var targets []string
	if s.Config == nil {
		return nil
	}
	for _, svc := range s.Config.Services {
		for _, m := range svc.Volumes {
			if m.Type == "volume" && m.Source == volume {
				targets = append(targets, m.Target)
			}
		}
	}
	return targets
}

// readPaths reads a comma list of paths within a volume. One that leads out of it is named
// before one that is written as the containers see it, below a target.
func readPaths(service, key, value string, targets []string) ([]string, error) {
	var paths []string
	var absolute error
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		clean, ok := WithinVolume(item)
		if inside, below := within(targets, clean); below {
			absolute = cmp.Or(absolute, error(unreadable(service, key, item, errInContainer).
				WithHint("paths are relative to the volume's root: write %s", inside)))
			continue
		}
		if !ok {
			return nil, unreadable(service, key, item, ErrOutsideVolume).
				WithHint("paths are relative to the volume's root, as in dump/backup.sql")
		}
		paths = append(paths, clean)
	}
	if absolute != nil {
		return nil, absolute
	}
	if len(paths) == 0 {
		return nil, unreadable(service, key, value, errNoPath).
			WithHint("name paths within the volume, separated by commas, or remove the label to take all of it; a variable that is not set leaves it empty")
	}
	return paths, nil
}

// within cuts the target that an absolute path lies below.
func within(targets []string, file string) (inside string, ok bool) {
	for _, target := range targets {
		if inside, ok = strings.CutPrefix(file, path.Clean(target)+"/"); ok {
			return inside, true
		}
		if file == path.Clean(target) {
			return ".", true
		}
	}
	return "", false
}

var (
	errInContainer = errors.New("is a path in the container")
	errNoSwitch    = errors.New("is neither true nor false")
	errNoPath      = errors.New("names no path")
)

func unreadable(service, key, value string, why error) *ccci.Error {
	if len(value) > longestLabelQuote {
		value = strings.ToValidUTF8(value[:longestLabelQuote], "") + "…"
	}
	return ccci.Errorf(ccci.CodeRecipe, "service %s: the value %q of label %s %w", service, value, key, why)
}
