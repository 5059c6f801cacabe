# The OCI image of what runs as a service of the swarm: bridge, dashboard, and what the
# proxy needs of cc-ci. It gets no tag of its own, so it is tagged by its content: the
# same files make the same tag, and a new tag is a new rollout.
{ dockerTools
, cacert
, cc-ci-run
}:
dockerTools.buildLayeredImage {
  name = "cc-ci";
  contents = [ cacert cc-ci-run ];
  # Where whoever starts it may lay memory: the root file system is read-only.
  extraCommands = "mkdir -m 1777 tmp";
  config = {
    Entrypoint = [ "/bin/cc-ci" ];
    Env = [ "PATH=/bin" "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt" ];
  };
}
