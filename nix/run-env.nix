# cc-ci-run: every program that a run starts, and nothing else on its PATH.
{ buildEnv
, cc-ci
, bash
, chromium
, coreutils
, docker-client
, git
, restic
}:
buildEnv {
  name = "cc-ci-run";
  paths = [ bash cc-ci chromium coreutils docker-client git restic ];
  pathsToLink = [ "/bin" "/share/cc-ci" ];
}
