// Package recipe reads the Co-op Cloud recipe format: the env file, the exports
// of abra.sh, the compose files, the versions in git, and the lint rules.
//
// Everything a recipe holds is text from a pull request. It is parsed, never
// executed: abra.sh is read literally, env files never pass a shell, and no file is
// opened outside the checkout or through a symbolic link. The compose files go
// through the loader that docker stack deploy uses, so that the model in [Stack] is
// the one an operator would get; what that loader drops or leaves literal without a
// word is said aloud in [Stack.Warnings].
//
// Errors carry the file, the line and the key. CodeInvalid says that text does not
// parse or is missing, CodeRecipe that it parses and cannot work, CodeRefused that it
// reaches for what it may not have.
package recipe
