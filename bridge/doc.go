// Package bridge turns comments on pull requests into runs, and runs into
// comments. It polls the enrolled repositories, decides who may ask for what
// and which commit exactly is meant, claims every wish once, hands it to the
// engine, follows it to its end, and says on the pull request what came of it.
//
// Everything it knows lives in the store: cursors, runs and outgoing messages.
// It may be killed at any instant and started again; then it resumes every
// unfinished run, sends what was not sent, and reads again the comments that it
// had not fully handled. Doing any of it twice changes nothing:
//
//   - a wish is a run by its key, so a comment that is read again finds its run;
//   - an engine knows a job by its run, so a run that is started again finds its build;
//   - a message has a key, so a comment that is posted again finds itself.
//
// A forge that is away is waited for: after three failures in a row there is one
// try at a time until one succeeds, and everything else stays in the store. Of
// many repositories none is looked at more seldom than the configured pause, and a hint
// on the bus, as webhooks make it, leads to a look at once.
//
// The files follow the way of a comment: cadence.go says when a repository is looked at,
// patrol.go keeps to it, poll.go brings what is new, command.go reads it,
// accept.go decides, ask.go answers what is no run, watch.go follows the
// build, say.go words it, outbox.go delivers. trouble.go notices outages,
// several.go is one bridge for several forges, health.go and observe.go let others see.
package bridge
