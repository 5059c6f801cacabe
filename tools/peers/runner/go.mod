// The Drone exec runner that tests use. Nothing here is shipped.
module github.com/recipe-maintainers/cc-ci/tools/peers/runner

go 1.26

require github.com/drone-runners/drone-runner-exec v1.0.0-beta.10
