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
// The files follow the way of a comment: command.go reads it, poll.go brings it,
// accept.go decides, ask.go answers what is no run, watch.go follows the
// build, say.go words it, outbox.go delivers.
package bridge
