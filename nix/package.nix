# The program: one static binary, and the enrolments beside it.
{ lib
, buildGoModule
, buildGo126Module ? buildGoModule
}:
let
  # What does not make the program: a change there builds nothing anew. vendorHash is
  # that of exactly the other files (nix/vendor_test.go); one path a line.
  excluded = [
    ../changelog
    ../docs
    ../flake.lock
    ../flake.nix
    ../nix
    ../secrets
    ../tools
  ];
in
buildGo126Module {
  pname = "cc-ci";
  version = "0-unstable";

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.difference ../. (lib.fileset.unions (map lib.fileset.maybeMissing excluded));
  };
  # Wrong after a change of dependencies: go test ./nix -run VendorHash -update
  vendorHash = "sha256-c+67UxSlimI80IAID1jSVabDsRlDh1i6l2JMomqoUWU=";

  subPackages = [ "cmd/cc-ci" ];
  env.CGO_ENABLED = 0;
  ldflags = [ "-s" "-w" ];

  # The tests start servers, which a build may not. What can be asked here is asked:
  # whether the program runs, and every enrolment is sound.
  doCheck = false;
  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    printf 'tests: %s\n' "$out/share/cc-ci/tests" > "$TMPDIR/cc-ci.yml"
    "$out/bin/cc-ci" --config "$TMPDIR/cc-ci.yml" config check
    runHook postInstallCheck
  '';
  postInstall = ''
    mkdir -p "$out/share/cc-ci"
    cp -r tests "$out/share/cc-ci/tests"
  '';

  meta = {
    description = "Tests recipes of Co-op Cloud by really deploying them";
    mainProgram = "cc-ci";
    platforms = lib.platforms.linux;
  };
}
