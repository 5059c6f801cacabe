# The OCI image of one long-running role. Without a tag of its own it is tagged by its
# content: the same files make the same tag, and a new tag is a new rollout.
{ dockerTools
, cacert
, cc-ci
, cc-ci-run
, role
}:
dockerTools.buildLayeredImage {
  name = "cc-ci-${role}";
  contents = [
    cacert
    # The bridge makes ready what runs need; the dashboard only reads.
    (if role == "bridge" then cc-ci-run else cc-ci)
  ];
  config = {
    Entrypoint = [ "/bin/cc-ci" ];
    Cmd = [ role ];
    Env = [ "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt" ];
    Labels."cc-ci.role" = role;
  };
}
