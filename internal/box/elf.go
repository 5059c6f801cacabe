package box

import (
	"bufio"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// closure returns the absolute paths of the loader and the shared libraries that
// the program at path needs, directly or through others, as the dynamic loader
// would find them. It is empty for a static program.
func closure(path string) ([]string, error) {
	var found []string
	var visit func(file string, dirs []string) error
	visit = func(file string, inherited []string) error {
		f, err := elf.Open(file)
		if err != nil {
			return ccci.Errorf(ccci.CodeInvalid, "packing %s: %w", file, err).
				WithHint("give the path of the program itself; wrapper scripts cannot be packed")
		}
		defer f.Close()
		if loader := interpreter(f); loader != "" && !slices.Contains(found, loader) {
			found = append(found, loader)
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return ccci.Errorf(ccci.CodeInvalid, "packing %s: %w", file, err)
		}
		dirs := slices.Concat(runpaths(f, file), inherited)
		for _, name := range needed {
			library, err := findLibrary(name, f, slices.Concat(dirs, systemDirs()))
			if err != nil {
				return ccci.Errorf(ccci.CodeInvalid, "packing %s: library %s, which it needs, is not on this machine", path, name).
					WithHint("install the package that holds %s", name)
			}
			if slices.Contains(found, library) {
				continue
			}
			found = append(found, library)
			if err := visit(library, dirs); err != nil {
				return err
			}
		}
		return nil
	}
	err := visit(path, nil)
	return found, err
}

// interpreter returns the program's dynamic loader, "" for a static program.
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return ""
		}
		return strings.TrimRight(string(b), "\x00")
	}
	return ""
}

// runpaths returns the search directories that the file itself names.
func runpaths(f *elf.File, file string) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			continue
		}
		for _, value := range values {
			for dir := range strings.SplitSeq(value, ":") {
				origin := filepath.Dir(file)
				dirs = append(dirs, strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin).Replace(dir))
			}
		}
	}
	return dirs
}

// systemDirs returns the loader's own directories: those of ld.so.conf, then
// the usual ones.
func systemDirs() []string {
	files, _ := filepath.Glob("/etc/ld.so.conf.d/*.conf")
	files = append([]string{"/etc/ld.so.conf"}, files...)
	var dirs []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if line := strings.TrimSpace(s.Text()); filepath.IsAbs(line) {
				dirs = append(dirs, line)
			}
		}
		f.Close()
	}
	return append(dirs, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
}

// findLibrary returns the first file of that name which fits the program.
func findLibrary(name string, program *elf.File, dirs []string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		lib, err := elf.Open(path)
		if err != nil {
			continue
		}
		fits := lib.Machine == program.Machine && lib.Class == program.Class
		lib.Close()
		if fits {
			return path, nil
		}
	}
	return "", errors.New("no such library")
}
