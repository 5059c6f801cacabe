// Package bench measures what cc-ci promises about speed, each figure side by
// side with a reference in the same run, so that a busy machine slows both:
//
//   - a whole life of Miniflux and one of WordPress, next to the docker and restic
//     commands that a careful operator would type for the same;
//   - the teardown of a tiny app, proven empty, next to docker stack rm;
//   - the start of a confined browser, next to a Chromium without walls;
//   - the time from a comment to the first line of the harness, next to the
//     start of a harness by hand;
//   - badges per second with 100,000 runs stored, next to a handler that sends
//     the same bytes from memory.
//
// Run it with make bench. One table at the end shows every figure with its
// reference, the ratio and the bar; a bar that is missed fails the benchmark.
package bench
