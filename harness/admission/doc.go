// Package admission judges a recipe before it is deployed (N3).
//
// A recipe comes from a pull request: it is a program for the swarm that runs
// every app of this machine. [CheckFiles] bounds the YAML texts before any
// loader expands them. [Judge] then looks at the very model that is going to be
// deployed, after interpolation, merges and overlays, and at the files it was
// made from, since tools other than swarm honour keys that swarm ignores. What a
// rule refuses stays refused unless a waiver on our side, never in the pull
// request, names rule, service, reason, owner and expiry.
//
// What cannot be proven harmless is refused: a router rule that does not parse,
// a host pattern without an end, a mount type that nobody knows yet.
package admission
