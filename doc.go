// Package ccci holds the nouns of cc-ci and the ports between its parts.
//
// A person writes !testme on a pull request. The bridge turns that comment into
// a [Run], an [Engine] starts the harness with a [Job], and the harness answers
// with one [Result]. Everything that leaves this process goes through a port:
// [Forge], [Engine], [Store], [Bus], [Locker] and [Blobs]. Each port has one
// conformance suite (forgetest, enginetest, storetest, bustest, blobtest), and
// the comments on its methods are the contract that the suite proves.
//
// The package imports the standard library only.
package ccci
