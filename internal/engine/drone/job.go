package drone

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strconv"

	ccci "github.com/recipe-maintainers/cc-ci"
)

// JobVariable is the parameter, and with it the variable of the step's
// environment, that holds the whole job; see [DecodeJob].
const JobVariable = "CCCI_JOB"

// Parameters by which a build is found again.
const (
	runParam     = "RUN_ID"
	attemptParam = "ATTEMPT"
)

// attemptOf is which attempt at its run a build is, from 1.
func attemptOf(params map[string]string) int {
	n, err := strconv.Atoi(params[attemptParam])
	if err != nil || n < 1 {
		return 1
	}
	return n
}

var validRun = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$`)

// Parameters returns the parameters of a job's build (A9). The names are these
// and no others, whatever the job holds; the harness reads JobVariable alone, the
// rest is for people.
func Parameters(job ccci.Job) (map[string]string, error) {
	if !validRun.MatchString(string(job.RunID)) {
		return nil, ccci.Errorf(ccci.CodeInvalid, "starting a build: %q is not a run id", job.RunID)
	}
	text, err := json.Marshal(job)
	if err != nil {
		return nil, ccci.Errorf(ccci.CodeInvalid, "writing down the job of %s: %w", job.RunID, err)
	}
	return map[string]string{
		runParam:     string(job.RunID),
		attemptParam: strconv.Itoa(max(job.Attempt, 1)),
		"RECIPE":     job.Recipe,
		"REF":        string(job.Commit),
		"PR":         strconv.Itoa(job.PR.Number), // 0: a run by hand
		"SRC":        job.PR.Repo.String(),
		JobVariable:  base64.StdEncoding.EncodeToString(text),
	}, nil
}

// DecodeJob reads what [Parameters] wrote into JobVariable.
func DecodeJob(text string) (ccci.Job, error) {
	var job ccci.Job
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return job, ccci.Errorf(ccci.CodeInvalid, "reading the job in %s: %w", JobVariable, err).WithHint("it is base64 of the job's JSON")
	}
	if err := json.Unmarshal(data, &job); err != nil {
		return job, ccci.Errorf(ccci.CodeInvalid, "reading the job in %s: %w", JobVariable, err).WithHint("it is base64 of the job's JSON")
	}
	if !validRun.MatchString(string(job.RunID)) {
		return job, ccci.Errorf(ccci.CodeInvalid, "reading the job in %s: %q is not a run id", JobVariable, job.RunID).WithHint("only the bridge starts such builds")
	}
	return job, nil
}
