// The Drone that tests talk to. Nothing here is shipped.
module github.com/recipe-maintainers/cc-ci/tools/peers/drone

go 1.26

require github.com/drone/drone v1.10.1

replace (
	docker.io/go-docker => github.com/docker/go-docker v1.0.0
	github.com/docker/docker => github.com/docker/engine v17.12.0-ce-rc1.0.20200309214505-aa6a9891b09c+incompatible
	github.com/h2non/gock => gopkg.in/h2non/gock.v1 v1.0.14
)
