// Package harness tests one recipe at one commit: it deploys it, upgrades it,
// backs it up, restores it, asks it questions and tears it down. It knows no
// forge and no database. Its input is a ccci.Job, its output a ccci.Result.
package harness
