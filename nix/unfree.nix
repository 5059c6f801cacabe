# The one package of this flake whose licence (PolyForm) nixpkgs counts as unfree.
package: (package.pname or "") == "drone-runner-exec"
