package demoimages

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
)

// registry is the host part of every reference made here. Nothing answers at
// it: an image that is missing can never be pulled from somebody else.
const registry = "cc-ci.local/"

// image is the definition of one image.
type image struct {
	ref      string
	programs map[string]program // absolute path in the image -> what is there
	debian   *debian            // root file system to start from; nil: an empty one
	dirs     []directory
	config   []string // Dockerfile instructions: ENTRYPOINT, CMD, ENV, USER, WORKDIR, EXPOSE
}

// directory is made in an image without Debian, with an owner of its own.
// A volume that is mounted there first takes this owner over.
type directory struct {
	path string
	uid  int
	mode int64
}

// program is compiled from a Go module at a tag, or, with source, from a
// single file of this package.
type program struct {
	name    string
	module  string // "" with source
	version string
	pkg     string // import path of the main package
	ldflags string
	source  string
}

// debian is a root file system from Debian's packages.
type debian struct {
	suite    string
	packages []string
	unpacked []string          // packages whose files alone are taken, without what they depend on
	files    map[string]string // absolute path -> content; executable when it begins with #!
	// passwd and group are lines that exist before the packages are installed, so
	// that user numbers are ours and the same in every build.
	passwd, group string
	owned         map[string]string // absolute folder -> "uid:gid:mode"
	remove        []string          // paths and patterns removed at the end
}

var (
	//go:embed await/main.go
	awaitSource string
	//go:embed tinyapp/main.go
	tinyappSource string
	//go:embed postgres/entrypoint.sh
	postgresEntrypoint string
	//go:embed mariadb/entrypoint.sh
	mariadbEntrypoint string
	//go:embed wordpress/entrypoint.sh
	wordpressEntrypoint string
	//go:embed wordpress/apache.conf
	wordpressApache string
)

// appUser is the user of the images without Debian.
const appUser = 1000

var (
	await = program{name: "await", version: "1", source: awaitSource}
	// shell runs hooks in images that hold nothing else: `sh -c "…"`.
	shell = program{name: "gosh", module: "mvdan.cc/sh/v3", version: "v3.14.1", pkg: "mvdan.cc/sh/v3/cmd/gosh"}
)

// catalogue lists the images in building order: what the demonstration needs first.
var catalogue = []image{
	pocketbase("0.28.2"),
	pocketbase("0.36.8"),
	tinyapp("1.0.0"),
	tinyapp("1.1.0"),
	miniflux("2.0.51"),
	miniflux("2.2.3"),
	postgres15(),
	mariadb10(),
	wordpress("6.1", "bookworm"),
	wordpress("6.8", "trixie"),
}

func pocketbase(version string) image {
	return image{
		ref: registry + "pocketbase:" + version,
		programs: map[string]program{
			"/usr/local/bin/pocketbase": {
				name:    "pocketbase",
				module:  "github.com/pocketbase/pocketbase",
				version: "v" + version,
				pkg:     "github.com/pocketbase/pocketbase/examples/base",
				ldflags: "-X github.com/pocketbase/pocketbase.Version=" + version,
			},
			"/usr/local/bin/await": await,
			"/bin/sh":              shell,
		},
		// Relative to the working directory PocketBase finds its data, hooks and public files.
		dirs: []directory{{"/pb_data", appUser, 0o750}, {"/pb_hooks", 0, 0o755}, {"/pb_public", 0, 0o755}},
		config: []string{
			`WORKDIR /`,
			fmt.Sprintf(`USER %d:%d`, appUser, appUser),
			`EXPOSE 8090`,
			`ENTRYPOINT ["pocketbase"]`,
			`CMD ["serve", "--http=0.0.0.0:8090", "--hooksWatch=false", "--automigrate=false"]`,
		},
	}
}

func miniflux(version string) image {
	return image{
		ref: registry + "miniflux:" + version,
		programs: map[string]program{
			"/usr/local/bin/miniflux": {
				name:    "miniflux",
				module:  "miniflux.app/v2",
				version: "v" + version,
				pkg:     "miniflux.app/v2",
				ldflags: "-X miniflux.app/v2/internal/version.Version=" + version,
			},
			"/usr/local/bin/await": await,
			"/bin/sh":              shell,
		},
		config: []string{
			fmt.Sprintf(`USER %d:%d`, appUser, appUser),
			`ENV LISTEN_ADDR=0.0.0.0:8080`,
			`EXPOSE 8080`,
			`CMD ["miniflux"]`,
		},
	}
}

func tinyapp(version string) image {
	return image{
		ref: registry + "tinyapp:" + version,
		programs: map[string]program{
			"/usr/local/bin/tinyapp": {name: "tinyapp", version: version, source: tinyappSource, ldflags: "-X main.version=" + version},
			"/bin/sh":                shell,
		},
		dirs: []directory{{"/data", appUser, 0o755}, {"/media", appUser, 0o755}},
		config: []string{
			fmt.Sprintf(`USER %d:%d`, appUser, appUser),
			`EXPOSE 8080`,
			`CMD ["tinyapp"]`,
		},
	}
}

func postgres15() image {
	return image{
		ref: registry + "postgres:15",
		debian: &debian{
			suite:    "bookworm",
			packages: []string{"postgresql-15"},
			files:    map[string]string{"/usr/local/bin/postgres-entrypoint": postgresEntrypoint},
			passwd:   "postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/bash",
			group:    "postgres:x:999:",
			// The socket is beside the data: mmdebstrap leaves /run empty.
			owned: map[string]string{"/var/lib/postgresql": "999:999:0755", "/var/lib/postgresql/data": "999:999:0700"},
			// The cluster that Debian's package makes, and the just-in-time compiler
			// with its LLVM: three quarters of the size, of no use here.
			remove: []string{
				"/var/lib/postgresql/15", "/etc/postgresql/15", "/usr/lib/postgresql/15/lib/bitcode",
				"/usr/lib/postgresql/15/lib/llvmjit*", "/usr/lib/*/libLLVM*", "/usr/lib/llvm-*", "/usr/lib/*/libz3*",
				"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/postgresql/15/man",
				"/var/cache/apt", "/var/lib/apt/lists", "/var/log/*",
			},
		},
		config: []string{
			`ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
			`ENV PGDATA=/var/lib/postgresql/data/pgdata`,
			`ENV PGHOST=/var/lib/postgresql`,
			`ENV LANG=C.UTF-8`,
			`USER 999:999`,
			`EXPOSE 5432`,
			`ENTRYPOINT ["postgres-entrypoint"]`,
			`CMD ["postgres"]`,
		},
	}
}

// scrap is what no image needs of Debian's packages.
var scrap = []string{
	"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/perl", "/usr/lib/*/perl", "/usr/lib/*/perl5",
	"/var/cache/apt", "/var/lib/apt/lists", "/var/log/*",
}

func mariadb10() image {
	return image{
		ref: registry + "mariadb:10.11",
		debian: &debian{
			suite:    "bookworm",
			packages: []string{"mariadb-server-core", "mariadb-client-core"},
			unpacked: []string{"mariadb-client"}, // mariadb-dump and mariadb-admin; it depends on Perl for others
			files:    map[string]string{"/usr/local/bin/mariadb-entrypoint": mariadbEntrypoint},
			passwd:   "mysql:x:999:999:MariaDB:/var/lib/mysql:/bin/bash",
			group:    "mysql:x:999:",
			owned:    map[string]string{"/var/lib/mysql": "999:999:0755"},
			remove: append([]string{
				"/usr/bin/mariadb-binlog", "/usr/bin/mariadb-slap", "/usr/bin/mariadb-import", "/usr/bin/mariadb-show", "/usr/bin/mariadb-plugin",
				"/usr/bin/mariadb-conv", "/usr/bin/mariadb-waitpid", "/usr/bin/innochecksum", "/usr/bin/perror", "/usr/bin/replace",
			}, scrap...),
		},
		config: []string{
			`ENV LANG=C.UTF-8`,
			`USER 999:999`,
			`EXPOSE 3306`,
			`ENTRYPOINT ["mariadb-entrypoint"]`,
			`CMD ["mariadbd"]`,
		},
	}
}

// wordpress is the version that a suite of Debian has, with Apache and PHP.
func wordpress(version, suite string) image {
	return image{
		ref: registry + "wordpress:" + version,
		debian: &debian{
			suite:    suite,
			packages: []string{"apache2-bin", "libapache2-mod-php", "php-mysql"},
			// The package wants a database client, another web server's files and fonts.
			unpacked: []string{"wordpress", "wordpress-theme-twentytwentythree", "libjs-underscore", "libjs-lodash", "libjs-cropper", "php-getid3"},
			files: map[string]string{
				"/usr/local/bin/wordpress-entrypoint": wordpressEntrypoint,
				"/etc/wordpress/apache.conf":          wordpressApache,
			},
			owned:  map[string]string{"/var/lib/wordpress/wp-content": "33:33:0755", "/var/lib/wordpress/wp-content/themes": "33:33:0755", "/var/lib/wordpress/wp-content/uploads": "33:33:0755"},
			remove: scrap,
		},
		config: []string{
			`ENV LANG=C.UTF-8`,
			`WORKDIR /usr/share/wordpress`,
			`USER 33:33`,
			`EXPOSE 8080`,
			`ENTRYPOINT ["wordpress-entrypoint"]`,
			`CMD ["apache2"]`,
		},
	}
}

// hash identifies the definition for one architecture: everything that decides
// what the image holds but the moment of building.
func (img image) hash(arch string) string {
	return digest(arch, fmt.Sprintf("%q %v %v %q %+v", img.ref, img.programs, img.dirs, img.config, img.debianValue()))
}

func (img image) debianValue() debian {
	if img.debian == nil {
		return debian{}
	}
	return *img.debian
}

// digest is the first half of a SHA-256, enough to tell definitions apart.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
