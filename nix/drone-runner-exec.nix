# The exec runner of Drone. It has left nixpkgs, so it is packaged here.
{ lib
, buildGoModule
, fetchFromGitHub
}:
buildGoModule {
  pname = "drone-runner-exec";
  version = "1.0.0-beta.10"; # the one that the tests run, see tools/peers/runner

  src = fetchFromGitHub {
    owner = "drone-runners";
    repo = "drone-runner-exec";
    rev = "v1.0.0-beta.10";
    hash = "sha256-dQIN0DXH9j4Qu0Q8vwHjTG/lrtThHnR2bc1UymuUACI=";
  };
  vendorHash = "sha256-Atl8jY4h7d1K4lCemX/fwiS3Nc0w56LUPy8ZrdZrqxg=";

  meta = {
    description = "Drone runner that executes steps on the machine itself";
    homepage = "https://github.com/drone-runners/drone-runner-exec";
    license = lib.licenses.unfree; # PolyForm Small Business, or PolyForm Free Trial
    mainProgram = "drone-runner-exec";
    platforms = lib.platforms.linux;
  };
}
